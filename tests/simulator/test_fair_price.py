"""The fair price: volatility, clusters, fat tails and moves as docs/venues.md, "The simulated market", says. Seeded."""

from __future__ import annotations

import math
import statistics
from functools import cache
from itertools import pairwise

import pytest

from lakehouse.simulator.fair_price import FairPrice
from lakehouse.simulator.options import DEFAULT_MOVES_PER_HOUR

MINUTE = 60.0
DAY = 86_400.0
FIRST_DAY = 20_400
ASSETS = ("BTC", "ETH", "SOL")
#: Volatility of a year, as docs/venues.md cites it.
CITED = {"BTC": 0.53, "ETH": 0.64, "SOL": 0.84, "EUR": 0.067}


@cache
def minute_returns(asset: str, days: int = 20) -> list[float]:
    """Log returns of one minute without moves."""
    fair = FairPrice(3, asset)
    path = [math.log(fair.at(FIRST_DAY * DAY + minute * MINUTE)) for minute in range(days * 1440 + 1)]
    return [later - earlier for earlier, later in pairwise(path)]


def moved_minutes(fair: FairPrice, hours: int, start: float = FIRST_DAY * DAY) -> list[int]:
    """The minutes, counted from the epoch, whose price moved by more than 2 % from open to close."""
    minutes = range(int(start // MINUTE), int(start // MINUTE) + hours * 60)
    ends = {minute: (fair.at(minute * MINUTE + 0.1), fair.at(minute * MINUTE + 59.9)) for minute in minutes}
    return [minute for minute, (opened, closed) in ends.items() if abs(closed / opened - 1) > 0.02]


@pytest.mark.parametrize("asset", CITED)
def test_volatility_is_the_cited_one(asset: str) -> None:
    returns = minute_returns(asset)
    year = math.sqrt(statistics.fmean(one * one for one in returns) * 365 * 1440)
    assert year == pytest.approx(CITED[asset], rel=0.15)


def test_a_day_moves_as_much_as_the_cited_volatility_says() -> None:
    fair = FairPrice(3, "BTC")
    levels = [math.log(fair.at((FIRST_DAY + day) * DAY)) for day in range(301)]
    moves = [later - earlier for earlier, later in pairwise(levels)]
    assert statistics.pstdev(moves) == pytest.approx(CITED["BTC"] / math.sqrt(365), rel=0.15)


@pytest.mark.parametrize("asset", ASSETS)
def test_tails_are_fat(asset: str) -> None:
    returns = minute_returns(asset)
    kurtosis = statistics.fmean(one**4 for one in returns) / statistics.fmean(one**2 for one in returns) ** 2
    assert 8 < kurtosis < 25  # a normal distribution has 3


@pytest.mark.parametrize("asset", ASSETS)
def test_volatility_comes_in_clusters(asset: str) -> None:
    sizes = [abs(one) for one in minute_returns(asset)]
    assert statistics.correlation(sizes[:-1], sizes[1:]) > 0.25
    assert statistics.correlation(sizes[:-60], sizes[60:]) > 0.06
    returns = minute_returns(asset)
    assert abs(statistics.correlation(returns[:-1], returns[1:])) < 0.05  # and the direction does not


def test_a_few_moves_a_day_if_none_are_asked_for() -> None:
    days = 12
    found = [
        minute
        for asset in ASSETS
        for minute in moved_minutes(FairPrice(3, asset, DEFAULT_MOVES_PER_HOUR / len(ASSETS)), days * 24)
    ]
    assert 1 <= len(found) / days <= 6
    assert not moved_minutes(FairPrice(3, "SOL"), days * 24)  # all of them are asked for


@pytest.mark.parametrize("wanted", [2.0, 20.0])
def test_as_many_moves_as_are_asked_for_at_random_times(wanted: float) -> None:
    hours = 120 if wanted < 10 else 24
    found = moved_minutes(FairPrice(3, "BTC", wanted), hours)
    assert len(found) == pytest.approx(wanted * hours, rel=0.15)
    remainders = [minute % 5 for minute in found]
    assert all(0.1 < remainders.count(one) / len(found) < 0.3 for one in range(5))
    apart = [later - earlier for earlier, later in pairwise(found)]
    assert statistics.pstdev(apart) > 0.5 * statistics.fmean(apart)


def test_a_move_takes_seconds_and_stays_for_minutes() -> None:
    fair = FairPrice(3, "BTC", 1.0)
    left = []
    for minute in moved_minutes(fair, 48):
        path = [fair.at(minute * MINUTE + second) for second in range(61)]
        steps = [abs(later / earlier - 1) for earlier, later in pairwise(path)]
        assert max(steps) < 0.02
        left.append(math.log(fair.at(minute * MINUTE + 180) / path[0]) / math.log(path[-1] / path[0]))
    assert len(left) > 30
    assert 0.8 < statistics.fmean(left) < 1.0


def test_the_price_has_no_seams() -> None:
    fair = FairPrice(3, "ETH", 2.0)
    for border in (MINUTE, 3600.0, DAY):
        for number in range(1, 50):
            at = FIRST_DAY * DAY + number * border
            assert fair.at(at) == pytest.approx(fair.at(at - 1e-3), rel=2e-5)


def test_the_price_depends_on_seed_asset_and_time_only() -> None:
    times = [FIRST_DAY * DAY + second * 977.3 for second in range(200)]
    forward, backward = FairPrice(3, "BTC", 2.0), FairPrice(3, "BTC", 2.0)
    path = [forward.at(time) for time in times]
    assert path == [backward.at(time) for time in reversed(times)][::-1]
    assert path != [FairPrice(4, "BTC", 2.0).at(time) for time in times]
    assert path != [FairPrice(3, "ETH", 2.0).at(time) for time in times]
