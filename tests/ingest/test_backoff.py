"""Backoff: its bounds, its spread, and the venues' limits in the worst case."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.backoff import FIRST_SECONDS, HEALTHY_SECONDS, LONGEST_SECONDS, delays


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_every_delay_lies_in_the_upper_half_of_its_step(rng: random.Random, count: int) -> None:
    for number, delay in enumerate(islice(delays(rng), count)):
        step = min(FIRST_SECONDS * 2**number, LONGEST_SECONDS)
        assert step / 2 <= delay <= step


def test_two_clients_spread_out() -> None:
    assert list(islice(delays(random.Random(1)), 8)) != list(islice(delays(random.Random(2)), 8))


class Shortest(random.Random):
    """The dice that the venue's limit has to fear: always the shortest delay."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the longest
        return a


def busiest_window(failures_before_a_healthy_minute: int, window: float) -> int:
    """Most attempts in a window by a socket that fails at once so often, then lives a healthy minute, and again."""
    attempts: list[float] = []
    now = 0.0
    while now < 2400:
        waits = delays(Shortest())
        for _ in range(failures_before_a_healthy_minute):
            attempts.append(now)
            now += next(waits)
        attempts.append(now)
        now += HEALTHY_SECONDS
    return max(sum(start <= at < start + window for at in attempts) for start in attempts)


@pytest.mark.parametrize(("venue", "limit", "window"), [("binance", 300, 300.0), ("kraken", 150, 600.0)])
def test_the_worst_case_stays_below_half_of_the_venues_limit(venue: str, limit: int, window: float) -> None:
    worst = max(busiest_window(failures, window) for failures in range(1, 60))
    assert 10 < worst <= limit / 2
