"""Certificates against a count of ids in plain Python."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lakehouse.client import Lake
from lakehouse.errors import SettingError
from tests.support.market_lake import MARKETS, MINUTE, MarketLake
from tests.support.rows import NOON_US, utc


def test_the_whole_of_each_market(market: MarketLake, lake: Lake) -> None:
    found = {(one["venue"], one["symbol"]): one for one in lake.completeness().arrow().to_pylist()}
    assert set(found) == set(MARKETS)
    for key, one in found.items():
        trades, gaps = market.of(key), market.gaps[key]
        missing = {state: sum(b - a + 1 for a, b, s in gaps if s == state) for state in ("open", "unavailable")}
        assert missing.items() <= one.items()
        assert one["present"] == len(trades) == one["expected"] - sum(missing.values())
        assert one["repaired"] == sum(trade["source"] == "repair" for trade in trades)
        assert (one["first_trade_id"], one["last_trade_id"]) == (trades[0]["trade_id"], trades[-1]["trade_id"])
        assert one["complete"] is (not gaps)


def expected(market: MarketLake, key: tuple[str, str], start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    """The counts of a range in plain Python; `expected` is 0 if it has no ids."""
    trades = {one["trade_id"]: one["ts_event"] for one in market.of(key)}
    inside = [one for one in market.of(key) if start <= one["ts_event"] < end]
    # A gap may hold trades of the range if the trades on both its sides do not rule it out.
    gaps = [gap for gap in market.gaps[key] if trades[gap[0] - 1] < end and trades[gap[1] + 1] >= start]
    ids = [*(one["trade_id"] for one in inside), *(edge for gap in gaps for edge in gap[:2])]
    if not ids:
        return {"expected": 0}
    low, high = min(ids), max(ids)
    counts: dict[str, Any] = {
        state: sum(b - a + 1 for a, b, of in market.gaps[key] if of == state and low <= a and b <= high)
        for state in ("open", "unavailable")
    }
    present = sum(low <= trade_id <= high for trade_id in trades)
    spans = min(trades.values()) <= start and max(trades.values()) >= end
    return counts | {
        "first_trade_id": low,
        "last_trade_id": high,
        "present": present,
        "expected": high - low + 1,
        "repaired": sum(one["source"] == "repair" for one in inside),
        "complete": spans and present == high - low + 1,
    }


@pytest.mark.parametrize("minutes", [1, 7, 60, 600])
def test_every_part_of_the_history(market: MarketLake, lake: Lake, minutes: int) -> None:
    verdicts = set()
    for begin in range(0, 1800, max(97, minutes)):
        start, end = (utc(NOON_US + at * MINUTE) for at in (begin, begin + minutes))
        one = lake.completeness(*MARKETS[0], start=start, end=end).arrow().to_pylist()[0]
        wanted = expected(market, MARKETS[0], start, end)
        assert wanted.items() <= one.items()
        if wanted["expected"]:
            verdicts.add(one["complete"])
    assert minutes != 60 or verdicts == {True, False}


@pytest.mark.parametrize("size", ["1m", "5m", "1h", "1d"])
def test_every_bar_of_a_range(market: MarketLake, lake: Lake, size: str) -> None:
    length = dt.timedelta(minutes={"1m": 1, "5m": 5, "1h": 60, "1d": 1440}[size])
    first, end = utc(NOON_US), utc(NOON_US + 1800 * MINUTE)
    found = lake.completeness(size=size, start=first, end=end).arrow().to_pylist()
    of_key = {(one["venue"], one["symbol"], one["bar_start"]): one for one in found}
    assert len(of_key) == len(found)
    states = set()
    for key in MARKETS:
        start = first if length < dt.timedelta(days=1) else dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
        while start < end:
            wanted = expected(market, key, start, start + length)
            one = of_key.pop((*key, start), {"expected": 0})
            assert wanted.items() <= one.items()
            if wanted["expected"]:
                states |= {name for name in ("complete", "repaired", "open", "unavailable") if wanted[name]}
            start += length
    assert not of_key
    assert size != "1m" or states == {"complete", "repaired", "open", "unavailable"}


def test_bars_need_a_start_and_begin_in_the_range(lake: Lake) -> None:
    with pytest.raises(SettingError, match="certificates of bars without a start; expected the time from which on"):
        lake.completeness(size="1m").arrow()
    starts = lake.completeness(*MARKETS[0], size="5m", start="2026-11-01T13:01", end="2026-11-01T13:31").arrow()
    found = [one["bar_start"] for one in starts.to_pylist()]
    assert (found[0].minute, found[-1].minute) == (5, 30)
    assert lake.completeness("coinbase", size="1m", start="2026-11-01").arrow().num_rows == 0


def test_a_range_behind_the_newest_trade_is_not_complete(lake: Lake) -> None:
    one = lake.completeness(*MARKETS[0], start="2027-01-01", end="2027-01-02").arrow().to_pylist()[0]
    assert (one["complete"], one["expected"], one["first_trade_id"]) == (False, 0, None)


def test_a_market_that_is_not_there(lake: Lake) -> None:
    assert lake.completeness("coinbase").arrow().num_rows == 0
