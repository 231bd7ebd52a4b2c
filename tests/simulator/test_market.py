"""The synthetic market: exact mean rate, bursts, times and ids in order, seeded."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from lakehouse.settings import VENUES
from lakehouse.simulator.fair_price import FairPrice
from lakehouse.simulator.instruments import list_symbol
from lakehouse.simulator.market import Market, Schedule
from lakehouse.simulator.record import Row
from lakehouse.simulator.venues.kraken.rest import result_key
from lakehouse.simulator.venues.registry import VENUES as VENUE_TABLE

START = 1_760_000_000_000_000
TICK = 0.005


def build(folder: Path, venue: str = "binance", rate: float = 2000.0, seed: int = 1) -> Market:
    return Market(
        list_symbol(VENUE_TABLE[venue].profile.rules, "BTC/USDT", 0), FairPrice(seed, "BTC"), rate, seed, folder
    )


def trade(market: Market, seconds: float, start: int = START) -> list[Row]:
    rows: list[Row] = []
    for tick in range(1, round(seconds / TICK) + 1):
        rows += market.make(TICK, start + round(tick * TICK * 1e6))
    return rows


@pytest.mark.parametrize("rate", [1.0, 50.0, 5000.0])
def test_mean_rate_and_bursts(rate: float) -> None:
    schedule = Schedule(rate, random.Random(1))
    seconds = 20 if rate > 1000 else 2000
    due = [sum(schedule.due(0.01)) for _ in range(seconds * 100)]
    assert sum(due) / seconds == pytest.approx(rate, rel=0.05)
    assert max(due) >= 30 * rate * 0.01


@pytest.mark.parametrize("venue", VENUES)
def test_ids_times_and_prices(tmp_path: Path, venue: str) -> None:
    market = build(tmp_path, venue)
    rows = trade(market, 5.0)
    market.close()
    assert [row.trade_id for row in rows] == list(
        range(market.instrument.first_id, market.instrument.first_id + len(rows))
    )
    times = [row.ts_event for row in rows]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] <= START + 5_000_000
    assert max(Counter(times).values()) in range(5, 60)  # several in one microsecond, never a page full
    assert max(Counter(time // 1000 for time in times).values()) >= 22
    assert all(row.price % market.instrument.step == 0 for row in rows)
    assert all(0.85 < row.price / 10.0**row.price_decimals / 63_000 < 1.15 for row in rows)
    assert len({row.price for row in rows}) > 50
    assert {row.buy for row in rows} == {True, False}


def test_same_seed_same_trades(tmp_path: Path) -> None:
    first, second, third = (
        trade(build(tmp_path / name, seed=seed), 0.5) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == second
    assert first != third


def test_a_clock_set_back_does_not_set_the_market_back(tmp_path: Path) -> None:
    market = build(tmp_path)
    rows = trade(market, 0.2) + trade(market, 0.2, START - 3_600_000_000)
    market.close()
    times = [row.ts_event for row in rows]
    assert times == sorted(times)


def test_another_seed_goes_on_from_the_recorded_price(tmp_path: Path) -> None:
    market = build(tmp_path, seed=1)
    last = trade(market, 0.5)[-1]
    market.close()
    market = build(tmp_path, seed=10)
    rows = trade(market, 0.5, START + 1_000_000)
    later = trade(market, 0.5, START + 61_000_000)
    market.close()
    apart = math.log(FairPrice(10, "BTC").at(START / 1e6) / FairPrice(1, "BTC").at(START / 1e6))
    assert abs(apart) > 0.02
    assert rows[0].trade_id == last.trade_id + 1
    assert rows[0].price == pytest.approx(last.price, rel=0.002)
    assert later[0].price == pytest.approx(last.price, rel=0.01)  # it comes back slowly: a restart is no move


def test_venues_agree_on_the_price(tmp_path: Path) -> None:
    prices = []
    for venue in VENUES:
        market = build(tmp_path, venue)
        last = trade(market, 0.5)[-1]
        market.close()
        prices.append(last.price / 10.0**last.price_decimals)
    assert max(prices) / min(prices) < 1.004


def test_decimals_of_the_venues() -> None:
    assert list_symbol(VENUE_TABLE["binance"].profile.rules, "BTC/USDT", 0).price_decimals == 8
    assert list_symbol(VENUE_TABLE["kraken"].profile.rules, "BTC/USDT", 0).price_decimals == 1
    assert list_symbol(VENUE_TABLE["coinbase"].profile.rules, "BTC/USDT", 0).price_decimals == 2
    assert list_symbol(VENUE_TABLE["kraken"].profile.rules, "SHIB/BTC", 0).price_decimals <= 10
    assert result_key("DOGE/USD") == "XXDGZUSD"
