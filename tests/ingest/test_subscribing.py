"""Requests of one connection after each kind of answer, with a clock of its own and a venue in a few lines."""

from __future__ import annotations

import itertools

import pytest

from lakehouse.exchanges.model import Refused, Subscribed
from lakehouse.ingest.subscribing import ANSWER_SECONDS, FIRST_SECONDS, LONGEST_SECONDS, TELL_SECONDS, Ask
from tests.support.subscribing_venues import A, B, C, D, Play, Reply, joint, kraken, rate


def test_one_that_is_named_costs_the_others_nothing() -> None:
    play = Play([A, B, C], joint({B: True}))
    play.run(5)
    assert play.asked == [(0.0, (A, B, C)), (0.01, (A, C))]
    assert play.told == [("refused", B), ("subscribed", A), ("subscribed", C)]
    assert play.shared.refused == {B: f"{B} is out of order"}
    assert play.subscriber.settled


def test_several_that_are_named_one_by_one() -> None:
    symbols = [f"S{number}/USD" for number in range(40)]
    play = Play(symbols, joint(dict.fromkeys(symbols[:30], True)))
    play.run(1)
    assert sorted(play.shared.refused) == sorted(symbols[:30])
    assert sorted(play.subscriber.since) == sorted(symbols[30:])
    assert max(at for at, _ in play.asked) < 0.5


@pytest.mark.parametrize("is_final", [True, False])
@pytest.mark.parametrize("bad", [[A], [B], [D], [A, C], [A, B, C], [A, B, C, D]])
def test_a_reason_without_a_name_is_tracked_down_within_seconds(bad: list[str], is_final: bool) -> None:
    play = Play([A, B, C, D], joint(dict.fromkeys(bad, is_final), names=False))
    play.run(4.5)  # Coinbase cuts after 5 s without a subscription
    good = [symbol for symbol in (A, B, C, D) if symbol not in bad]
    assert sorted(play.subscriber.since) == good
    if is_final:
        assert sorted(play.shared.refused) == bad
        assert play.subscriber.settled
    else:
        assert play.shared.refused == {}
        assert sorted(play.shared.unsubscribed) == bad
        assert [symbol for kind, symbol in play.told if kind == "unsubscribed"] == bad  # once each


def test_what_passes_is_asked_for_again_with_growing_pauses_and_told_once() -> None:
    play = Play([A, B], joint({B: False}))
    play.run(1000)
    assert play.groups[:2] == [(A, B), (A,)]
    times = [at for at, symbols in play.asked if symbols == (B,)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] <= 2 * FIRST_SECONDS + 0.02
    assert LONGEST_SECONDS / 2 <= pauses[-1] <= LONGEST_SECONDS + 0.02
    assert 15 < len(times) < 45
    assert play.told == [("subscribed", A), ("unsubscribed", B)]
    assert not play.subscriber.waiting - {B}
    play.answer = joint({})
    play.run(61)
    assert play.told[2:] == [("subscribed", B)]
    assert play.shared.unsubscribed == {}


def test_a_rate_that_was_exceeded_twice() -> None:
    play = Play([A, B], kraken([rate, lambda _: rate(None)]))
    play.run(5)
    assert play.groups == [(A, B), (B,), (B,)]
    assert play.told == [("subscribed", A), ("subscribed", B)]  # over before it is a state to be told


def test_words_about_the_venue_are_not_followed_by_a_request_for_each_symbol() -> None:
    left = [1, 1]

    def answer(ask: Ask) -> list[Reply]:
        return [rate(ask.number)] if left and left.pop() else [Subscribed(ask.symbols)]

    play = Play([A, B, C, D], answer)
    play.run(5)
    assert play.groups == [(A, B, C, D)] * 3
    assert set(play.subscriber.since) == {A, B, C, D}


def test_silence_is_no_acknowledgement() -> None:
    play = Play([A, B], lambda ask: [Subscribed((A,))] if A in ask.symbols else [])
    play.run(ANSWER_SECONDS + TELL_SECONDS + 1)
    assert play.told == [("subscribed", A), ("unsubscribed", B)]
    assert play.shared.unsubscribed[B].startswith("no answer within 2 s")
    play.told += [("subscribed", one) for one in play.subscriber.brought({A: 1, B: 2}, play.now)]  # trades speak for it
    assert play.told[2:] == [("subscribed", B)]


def test_an_acknowledgement_that_names_nothing_is_for_its_request_alone() -> None:
    """Binance numbers its replies. The second request fails for a while."""
    left = [1]

    def answer(ask: Ask) -> list[Reply]:
        if C in ask.symbols and left and left.pop():
            return [Refused("Invalid request: too many", is_whole=True, request=ask.number)]
        return [Subscribed(request=ask.number)]

    play = Play([A, B, C, D], answer, most=2, pause=0.5)
    play.run(0.7)
    assert play.told == [("subscribed", A), ("subscribed", B)]
    play.run(2)
    assert play.subscriber.since.keys() == {A, B, C, D}
    assert play.shared.listed == frozenset()  # which proves nothing
    assert all(later - earlier >= 0.5 for (earlier, _), (later, _) in itertools.pairwise(play.asked))


def test_already_subscribed_without_a_name_is_not_taken_for_all() -> None:
    def answer(ask: Ask) -> list[Reply]:
        return [Subscribed(request=ask.number, is_one=True)] if ask.symbols != (B,) else [rate(ask.number)]

    play = Play([A, B], answer)
    play.run(4)
    assert play.told == [("subscribed", A), ("unsubscribed", B)]


def test_the_next_connection_goes_on_where_this_one_was_cut() -> None:
    """Coinbase cuts who has no subscription after 5 s: what was found out is not to be found out again."""
    symbols = [f"S{number:03d}/USD" for number in range(64)]
    bad = dict.fromkeys(symbols[::8], False)
    play = Play(symbols, joint(bad, names=False))
    for _ in range(8):
        play.run(1.0)  # cut
        play.connect()
    play.run(3.0)
    assert sorted(play.subscriber.since) == [symbol for symbol in symbols if symbol not in bad]
    assert sorted(play.shared.unsubscribed) == sorted(bad)
    # From then on the good ones are asked for at once, together.
    play.connect()
    play.asked.clear()
    play.run(0.1)
    assert play.groups[0] == tuple(symbol for symbol in symbols if symbol not in bad)


def test_final_words_for_one_that_was_there_are_a_halt() -> None:
    play = Play([A, B], joint({}))
    play.run(3)
    assert play.subscriber.refused(Refused(f"{B} is delisted", B, is_final=True, is_whole=True), play.now) == (
        True,
        None,
    )
    assert play.subscriber.since.keys() == {A}
    play.answer = joint({B: True})
    play.run(10)
    assert play.told[2:] == [("unsubscribed", B)]
    assert play.shared.refused == {}
    play.connect()
    play.asked.clear()
    play.run(0.1)
    assert play.groups[0] == (A,)  # not spoiled by the other
    play.answer = joint({})
    play.run(61)
    assert play.told[-1] == ("subscribed", B)


def test_what_answers_no_request_is_no_refusal_of_one() -> None:
    play = Play([A, B], joint({}))
    play.run(1)
    for reply in (rate(None), rate(7), Refused("slow down", A), Refused("odd", "ZZZ/USD", is_final=True)):
        assert play.subscriber.refused(reply, play.now) == (False, None)
    assert play.subscriber.since.keys() == {A, B}
