"""The request budget, with a clock of its own: never above the limit in any window, and not far below it either."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.rate_limit import JOB_SHARE, LIVE_SHARE, LOOK_SHARE, WindowBudget

#: (weight, seconds, weight of one request): Binance, Kraken, Coinbase.
VENUES = {"binance": (6000.0, 60.0, 25.0), "kraken": (1.0, 1.0, 1.0), "coinbase": (10.0, 1.0, 1.0)}


def play(budget: WindowBudget, requests: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(pause before, weight) of each request → (when it was sent, weight). Each takes no time."""
    now, sent = 1000.0, []
    for pause, weight in requests:
        now += pause
        while (wait := budget.wait(weight, now)) > 0:
            now += wait + 1e-9  # a clock that ends just below what it was asked to wait would ask again
        budget.spend(weight, now)
        sent.append((now, weight))
    return sent


def most_in_a_window(sent: list[tuple[float, float]], seconds: float) -> float:
    return max(sum(weight for at, weight in sent if start <= at < start + seconds) for start, _ in sent)


@pytest.mark.parametrize("share", [LIVE_SHARE, JOB_SHARE, LOOK_SHARE])
@pytest.mark.parametrize("venue", VENUES)
@given(
    pauses=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 0.5), st.floats(0.0, 100.0)), min_size=1, max_size=400),
    seed=st.integers(0, 3),
)
def test_no_window_is_above_the_share_over_many_symbols(
    venue: str, share: float, pauses: list[float], seed: int
) -> None:
    weight, seconds, one = VENUES[venue]
    rng = random.Random(seed)
    weights = [one, *(rng.choice([one, one, one / 5]) if seed else one for _ in pauses[1:])]
    sent = play(WindowBudget(weight, seconds, share), list(zip(pauses, weights, strict=True)))
    limit = weight * share
    if limit >= one:
        assert most_in_a_window(sent, seconds) <= limit + 1e-6
    # Where one request is above the share, the window is stretched: so much in that time on average.
    stretched = seconds * max(1.0, one / limit)
    assert most_in_a_window(sent, stretched) <= max(limit, one) + 1e-6


@pytest.mark.parametrize("venue", VENUES)
def test_the_shares_together_stay_within_the_budget_and_a_busy_client_uses_its_share(venue: str) -> None:
    weight, seconds, one = VENUES[venue]
    assert LIVE_SHARE + JOB_SHARE < 1
    assert LOOK_SHARE < LIVE_SHARE  # and part of it
    sent = play(WindowBudget(weight, seconds, LIVE_SHARE), [(0.0, one)] * 2000)
    rate = sum(weight for _, weight in sent[:-1]) / (sent[-1][0] - sent[0][0])
    assert 0.9 * LIVE_SHARE <= rate / (weight / seconds) <= 1.1


def test_the_wait_is_told_and_used_up_shares_are_told() -> None:
    budget = WindowBudget(6000, 60, 2 / 3)
    for _ in range(160):
        assert budget.wait(25, 0.0) == 0
        budget.spend(25, 0.0)
    assert budget.used(0.0) == pytest.approx(2 / 3)
    assert budget.wait(25, 20.0) == pytest.approx(40)
    assert budget.wait(25, 60.0) == 0
    assert budget.used(60.0) == 0
    kraken = WindowBudget(1, 1, 1 / 4)
    kraken.spend(1, 10.0)
    assert kraken.wait(1, 10.0) == pytest.approx(4)  # one in four seconds
    assert kraken.wait(1, 14.0) == 0
