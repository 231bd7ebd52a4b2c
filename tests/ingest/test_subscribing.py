"""Requests of one connection after each kind of answer, with a clock of its own and a venue in a few lines."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from lakehouse.exchanges.model import Refused, Subscribed
from lakehouse.ingest.subscribing import ANSWER_SECONDS, FIRST_SECONDS, LONGEST_SECONDS, TELL_SECONDS, Ask, Subscriber
from lakehouse.ingest.subscriptions import Subscriptions

A, B, C, D = "AAA/USD", "BBB/USD", "CCC/USD", "DDD/USD"
Reply = Subscribed | Refused
Answer = Callable[[Ask], list[Reply]]


class Play:
    """Connections of one feed to a venue whose answers are `answer`; `told` are the events."""

    def __init__(self, symbols: list[str], answer: Answer, most: int = 1000, pause: float = 0.0) -> None:
        self.shared = Subscriptions(symbols)
        self.answer, self.most, self.pause = answer, most, pause
        self.now = 0.0
        self.asked: list[tuple[float, tuple[str, ...]]] = []
        self.told: list[tuple[str, str]] = []
        self.connect()

    def connect(self) -> None:
        self.subscriber = Subscriber(self.shared, self.now, random.Random(1), self.most, self.pause)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            ask = self.subscriber.step(self.now)
            if ask is not None:
                self.asked.append((self.now, ask.symbols))
                for reply in self.answer(ask):
                    if isinstance(reply, Subscribed):
                        self.told += [("subscribed", one) for one in self.subscriber.acknowledged(reply, self.now)]
                    else:
                        _, final = self.subscriber.refused(reply, self.now)
                        self.told += [("refused", final)] if final else []
            self.told += [("unsubscribed", symbol) for symbol, _ in self.subscriber.untold(self.now)]
            self.now = round(self.now + 0.01, 2)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        return [symbols for _, symbols in self.asked]


def joint(bad: dict[str, bool], names: bool = True, words: str = "is out of order") -> Answer:
    """A venue that refuses all for one bad symbol, as Coinbase; `bad` → whether its words are final."""

    def answer(ask: Ask) -> list[Reply]:
        wrong = next((symbol for symbol in ask.symbols if symbol in bad), None)
        if wrong is None:
            return [Subscribed(ask.symbols)]
        return [Refused(f"{wrong} {words}", wrong if names else None, bad[wrong], is_whole=True)]

    return answer


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


def kraken(refusals: list[Callable[[int], Refused]], symbol: str = B) -> Answer:
    """A venue that answers each symbol; the first requests for one of them get these refusals."""

    def answer(ask: Ask) -> list[Reply]:
        replies: list[Reply] = []
        for one in ask.symbols:
            if one == symbol and refusals:
                replies.append(refusals.pop(0)(ask.number))
            else:
                replies.append(Subscribed((one,), ask.number, is_one=True))
        return replies

    return answer


def rate(request: int | None) -> Refused:
    return Refused("Exceeded msg rate", request=request)


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


def test_one_that_rest_does_not_know_is_not_asked_for_again() -> None:
    play = Play([A, B], joint({B: False}))
    play.run(3)
    assert play.shared.refuse(B, "Invalid symbol.")
    assert not play.shared.refuse(B, "Invalid symbol.")
    count = len(play.asked)
    play.run(100)
    assert len(play.asked) <= count + 1  # one may have been on its way
    assert play.subscriber.waiting == frozenset()
    assert play.shared.wanted == (A,)
    assert play.shared.unsubscribed == {}


def test_when_a_connection_ends_the_missing_are_told() -> None:
    play = Play([A], joint({A: False}))
    play.run(0.1)
    assert play.subscriber.untold(play.now) == []
    assert play.subscriber.untold(play.now, is_over=True) == [(A, f"{A} is out of order")]
    play.connect()
    play.run(10)
    assert play.told == []  # it is the same state still


@pytest.mark.parametrize("late", [2.1, 3.0, 7.5, 20.0])
def test_a_late_nameless_refusal_refuses_nobody_for_good(late: float) -> None:
    """It answers the first request, and comes while the good symbol is asked for alone."""
    final = Refused("Currency pair not supported", is_final=True)
    play = Play([A, B], lambda _: [])
    play.run(late)
    while play.groups[-1] != (A,):
        play.run(0.01)
    assert play.subscriber.refused(final, play.now)[1] is None
    assert play.shared.refused == {}
    play.answer = joint({})
    play.run(61)
    assert set(play.subscriber.since) == {A, B}


def test_the_second_nameless_refusal_of_a_request_that_comes_late_refuses_nobody() -> None:
    """Two of three are bad; the words for the second come when the good one is asked for alone."""
    final = Refused("Currency pair not supported", is_final=True)
    play = Play([A, B, C], lambda ask: [final] if len(ask.symbols) > 1 else [])
    while not play.groups or play.groups[-1] != (A,):
        play.run(0.01)
    play.subscriber.refused(final, play.now)
    assert play.shared.refused == {}


@pytest.mark.parametrize(
    ("reply", "is_for_good"),
    [
        (Refused("no such symbol", is_final=True), True),  # all else has been answered
        (Refused("ZZZ/USD is delisted", "ZZZ/USD", is_final=True), False),  # about another's symbol
        (Refused("no such symbol", is_final=True, request=1), True),
        (Refused("no such symbol", is_final=True, request=9), False),
    ],
)
def test_what_proves_which_symbol_a_refusal_is_about(reply: Refused, is_for_good: bool) -> None:
    play = Play([A], lambda _: [])
    play.run(0.5)
    assert play.groups == [(A,)]
    play.subscriber.refused(reply, play.now)
    assert (A in play.shared.refused) is is_for_good


def test_a_numbered_refusal_is_proof_after_a_late_one_too() -> None:
    play = Play([A, B], lambda _: [])
    while not play.groups or play.groups[-1] != (A,):
        play.run(0.01)
    number = len(play.asked)
    assert play.subscriber.refused(Refused("no such", is_final=True, request=number), play.now) == (True, A)


def test_random_venues_end_subscribed_or_refused() -> None:
    """Whatever refuses whichever way and for how long: in the end each symbol has what the venue lists."""
    for seed in range(60):
        rng = random.Random(seed)
        symbols = [f"S{number}/USD" for number in range(rng.randint(1, 12))]
        gone = set(rng.sample(symbols, rng.randint(0, len(symbols))))
        play = Play(symbols, _moody(rng, gone), most=rng.choice([1, 3, 100]))
        for _ in range(6):
            play.run(rng.uniform(0.5, 5))
            play.connect()
        play.answer = joint(dict.fromkeys(gone, True), names=rng.random() < 0.5)
        play.run(400)
        assert set(play.shared.refused) == gone, seed
        assert set(play.subscriber.since) == set(symbols) - gone, seed
        assert play.shared.unsubscribed == {}, seed


def _moody(rng: random.Random, gone: set[str]) -> Answer:
    def answer(ask: Ask) -> list[Reply]:
        mood = rng.random()
        if mood < 0.2:
            return []
        if mood < 0.4:
            return [rate(rng.choice([None, ask.number]))]
        if mood < 0.6:
            wrong = rng.choice(ask.symbols)
            return [Refused("odd words", rng.choice([None, wrong]), is_whole=True)]
        return list(_answers(ask, gone))

    return answer


def _answers(ask: Ask, gone: set[str]) -> Iterator[Reply]:
    for symbol in ask.symbols:
        if symbol in gone:
            yield Refused(f"{symbol} is not listed", symbol, is_final=True)
        else:
            yield Subscribed((symbol,), ask.number, is_one=True)
