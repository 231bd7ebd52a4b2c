"""Certificates against a count of ids in plain Python."""

from __future__ import annotations

import pytest

from lakehouse.client import Lake
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


@pytest.mark.parametrize("minutes", [1, 7, 60, 600])
def test_every_part_of_the_history(market: MarketLake, lake: Lake, minutes: int) -> None:
    key = MARKETS[0]
    trades = {one["trade_id"]: one["ts_event"] for one in market.of(key)}
    verdicts = set()
    for begin in range(0, 1800, max(97, minutes)):
        start, end = (utc(NOON_US + at * MINUTE) for at in (begin, begin + minutes))
        one = lake.completeness(*key, start=start, end=end).arrow().to_pylist()[0]
        inside = [trade_id for trade_id, at in trades.items() if start <= at < end]
        # A gap may hold trades of the range if the trades on both its sides do not rule it out.
        gaps = [gap for gap in market.gaps[key] if trades[gap[0] - 1] < end and trades[gap[1] + 1] >= start]
        ids = [*inside, *(edge for gap in gaps for edge in gap[:2])]
        if not ids:
            assert one["expected"] == 0
            continue
        low, high = min(ids), max(ids)
        assert (one["first_trade_id"], one["last_trade_id"]) == (low, high)
        assert one["present"] == sum(low <= trade_id <= high for trade_id in trades)
        for state in ("open", "unavailable"):
            expected = sum(b - a + 1 for a, b, s in market.gaps[key] if s == state and low <= a and b <= high)
            assert one[state] == expected
        assert one["expected"] == high - low + 1
        spans = min(trades.values()) <= start and max(trades.values()) >= end
        assert one["complete"] is (spans and one["present"] == one["expected"])
        verdicts.add(one["complete"])
    assert minutes != 60 or verdicts == {True, False}


def test_a_range_behind_the_newest_trade_is_not_complete(lake: Lake) -> None:
    one = lake.completeness(*MARKETS[0], start="2027-01-01", end="2027-01-02").arrow().to_pylist()[0]
    assert (one["complete"], one["expected"], one["first_trade_id"]) == (False, 0, None)


def test_a_market_that_is_not_there(lake: Lake) -> None:
    assert lake.completeness("coinbase").arrow().num_rows == 0
