"""The market's trades against the recorded figures of docs/venues.md, "The simulated market". Seeded."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.fair_price import FairPrice
from lakehouse.simulator.instruments import list_symbol
from lakehouse.simulator.market import Market
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.record import Row
from lakehouse.simulator.venues.registry import VENUES as VENUE_TABLE

START = 1_760_000_040_000_000  # the start of a minute


def build(folder: Path, venue: str = "coinbase", rate: float = 20.0) -> Market:
    instrument = list_symbol(VENUE_TABLE[venue].profile.rules, "BTC/USDT", 0)
    return Market(instrument, FairPrice(1, "BTC"), rate, 1, folder)


def trade(market: Market, seconds: float, tick: float) -> list[Row]:
    rows: list[Row] = []
    for number in range(1, round(seconds / tick) + 1):
        rows += market.make(tick, START + round(number * tick * 1e6))
    market.close()
    return rows


def price(row: Row) -> float:
    return row.price / 10.0**row.price_decimals


def size(row: Row) -> float:
    return row.size / 10.0**row.size_decimals


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """A quarter of an hour of a market as busy as the demo's busiest."""
    return trade(build(tmp_path_factory.mktemp("record")), 900, 0.05)


def bursts(rows: list[Row]) -> list[list[Row]]:
    """Groups of trades with the same time, as one taker makes them."""
    return [group for _, found in groupby(rows, key=lambda row: row.ts_event) if len(group := list(found)) > 1]


def test_trades_come_in_bursts(rows: list[Row]) -> None:
    shared = sum(earlier.ts_event == later.ts_event for earlier, later in pairwise(rows)) / len(rows)
    assert 0.2 < shared < 0.4  # 27 % on Coinbase, 31 % on Binance
    assert 0.3 < sum(map(len, bursts(rows))) / len(rows) < 0.45  # 41 % on Coinbase
    waits = [(later.ts_event - earlier.ts_event) / 1e6 for earlier, later in pairwise(rows)]
    assert statistics.pstdev(waits) > 1.1 * statistics.fmean(waits)  # a Poisson process has 1.0


def test_a_burst_is_one_taker_who_eats_through_the_levels(rows: list[Row]) -> None:
    steps = [later.price - earlier.price for group in bursts(rows) for earlier, later in pairwise(group)]
    assert 0.4 < sum(step != 0 for step in steps) / len(steps) < 0.6  # 12 of 24 on Coinbase
    for group in bursts(rows):
        assert len({row.buy for row in group}) == 1
        assert sorted(group, key=lambda row: row.price, reverse=not group[0].buy) == group
        assert abs(price(group[-1]) / price(group[0]) - 1) < 4e-4  # at most 3.7 basis points on Coinbase


@pytest.mark.parametrize("venue", ["kraken", "coinbase"])
def test_a_long_burst_stays_within_the_recorded_distance(tmp_path: Path, venue: str) -> None:
    market = build(tmp_path, venue, rate=10_000.0)
    spans = []
    for tick in range(1, 2001):
        prices = [price(row) for row in market.make(0.005, START + tick * 5000)]
        if len(prices) > 500:
            spans.append(max(prices) / min(prices) - 1)
    market.close()
    assert len(spans) > 10
    assert 1e-4 < statistics.fmean(spans) < 5e-4


def test_takers_come_in_runs_of_one_side(rows: list[Row]) -> None:
    takers = [next(group) for _, group in groupby(rows, key=lambda row: row.ts_event)]
    same = sum(earlier.buy == later.buy for earlier, later in pairwise(takers)) / len(takers)
    assert 0.75 < same < 0.87  # 53 of 65 on Coinbase
    assert 0.4 < sum(row.buy for row in takers) / len(takers) < 0.6


def test_sizes_are_heavy_tailed(rows: list[Row]) -> None:
    median = statistics.median(map(size, rows))
    logs = [math.log(size(row) / median) for row in rows]
    assert statistics.pstdev(logs) == pytest.approx(1.9, rel=0.1)  # Coinbase
    assert max(map(size, rows)) > 100 * median  # 333 times on Coinbase
    largest = sorted(map(size, rows), reverse=True)[: len(rows) // 100]
    assert sum(largest) > 0.2 * sum(map(size, rows))


def test_venues_are_apart_by_the_cited_basis_points_and_come_back(tmp_path: Path) -> None:
    seconds = 1200
    closes: dict[str, dict[int, float]] = {}
    for venue in VENUES:
        made = trade(build(tmp_path, venue), seconds, 0.1)
        closes[venue] = {row.ts_event // 1_000_000: price(row) for row in made}
    common = sorted(set.intersection(*(set(one) for one in closes.values())))
    assert len(common) > 0.9 * seconds
    means = {at: statistics.fmean(closes[venue][at] for venue in VENUES) for at in common}
    for venue in VENUES:
        apart = [(closes[venue][at] / means[at] - 1) * 1e4 for at in common]
        assert 1.5 < statistics.fmean(map(abs, apart)) < 6  # 6 at Coinbase, 1 at Kraken
        assert statistics.correlation(apart[:-1], apart[1:]) > 0.8  # not a noise of each trade
        assert abs(statistics.correlation(apart[:-120], apart[120:])) < 0.35  # and gone after two minutes


def moved(rows: list[Row]) -> set[int]:
    """The minutes that moved by more than 2 % from open to close."""
    minutes: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        minutes[row.ts_event // 60_000_000].append(price(row))
    return {minute for minute, found in minutes.items() if abs(found[-1] / found[0] - 1) > 0.02}


@pytest.mark.parametrize(("wanted", "least", "most"), [(30.0, 22, 40), (0.0, 0, 0)])
def test_the_option_makes_moves_over_all_assets_on_every_venue(
    tmp_path: Path, wanted: float, least: int, most: int
) -> None:
    symbols = ("BTC/USDT", "ETH/USDT", "ETH/USD")
    options = SimulatorOptions(tmp_path, rate=100.0, symbols=symbols, moves_per_hour=wanted)
    exchange = Exchange(options, {}, {name: one.profile for name, one in VENUE_TABLE.items()})
    found = {key: moved(trade(market, 3600, 1.0)) for key, market in exchange.markets.items()}
    bitcoin, ether = found["binance", "BTC/USDT"], found["binance", "ETH/USDT"]
    assert least <= len(bitcoin) + len(ether) <= most
    for venue in VENUES:
        for symbol, same in (("BTC/USDT", bitcoin), ("ETH/USDT", ether), ("ETH/USD", ether)):
            assert len(found[venue, symbol] ^ same) <= 0.1 * most


@pytest.mark.parametrize("wanted", [-1.0, 61.0, math.nan])
def test_moves_out_of_range_are_refused(tmp_path: Path, wanted: float) -> None:
    with pytest.raises(SettingError, match="moves an hour; expected 0 to 60"):
        SimulatorOptions(tmp_path, moves_per_hour=wanted)
