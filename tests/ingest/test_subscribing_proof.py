"""Which symbol a refusal is about, and what of it is final: late and nameless answers, and random venues."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lakehouse.exchanges.model import Refused, Subscribed
from lakehouse.ingest.subscribing import Ask
from tests.support.subscribing_venues import A, Answer, B, C, Play, Reply, joint, rate


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
