"""Bars that no table holds, against the brute-force fold of the trades."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lakehouse.client import Lake
from tests.support.market_lake import MARKETS, MINUTE, MarketLake, micros
from tests.support.rows import NOON_US, utc

#: Not computed from trades.
WRITTEN = {"revision", "updated_at"}
START, END = utc(NOON_US + 3 * 3_600_000_000 + 1), utc(NOON_US + 20 * 3_600_000_000 + 7 * MINUTE)


def rows(found: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in WRITTEN} for row in found.to_pylist()]


def expected(market: MarketLake, minutes: int, *within: dt.datetime) -> list[dict[str, Any]]:
    bars = market.bars(minutes)
    return [
        {name: value for name, value in bar.items() if name not in WRITTEN}
        for bar in bars
        if not within or within[0] <= bar["bar_start"] < within[1]
    ]


@pytest.mark.parametrize(
    ("size", "minutes"), [("2m", 2), ("3m", 3), ("10m", 10), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440)]
)
def test_sizes_that_gold_lacks_are_rolled_up(market: MarketLake, lake: Lake, size: str, minutes: int) -> None:
    found = rows(lake.bars(size=size).arrow())
    assert len(found) == len(expected(market, minutes)) > 0
    for one, right in zip(found, expected(market, minutes), strict=True):
        assert one == right


@pytest.mark.parametrize(("size", "minutes"), [("3m", 3), ("15m", 15), ("1h", 60)])
def test_a_range_cuts_no_window(market: MarketLake, lake: Lake, size: str, minutes: int) -> None:
    found = rows(lake.bars(size=size, start=START, end=END).arrow())
    right = expected(market, minutes, START, END)
    # Finality is that of what is read: at most two windows after the range.
    assert [one | {"is_final": True} for one in found] == [one | {"is_final": True} for one in right]


def test_some_bars_are_complete_and_some_are_not(market: MarketLake) -> None:
    assert {bar["complete"] for bar in market.bars(15)} == {True, False}


@pytest.mark.parametrize(("size", "minutes"), [("1m", 1), ("5m", 5), ("2m", 2)])
@pytest.mark.parametrize("venue", [None, "kraken"])
def test_fill_forward_adds_each_quiet_window(
    market: MarketLake, lake: Lake, size: str, minutes: int, venue: str | None
) -> None:
    found = lake.bars(venue, size=size, start=START, end=END, fill="forward").arrow().to_pylist()
    first = -(-micros(START) // (minutes * MINUTE)) * minutes * MINUTE
    starts = [utc(at) for at in range(first, micros(END), minutes * MINUTE)]
    for market_key in MARKETS if venue is None else MARKETS[1:]:
        of_market = [one for one in found if (one["venue"], one["symbol"]) == market_key]
        assert [one["bar_start"] for one in of_market] == starts
        bars = {bar["bar_start"]: bar for bar in market.bars(minutes) if (bar["venue"], bar["symbol"]) == market_key}
        last = max((bar for start, bar in bars.items() if start < starts[0]), key=lambda bar: bar["bar_start"])
        for one in of_market:
            if one["bar_start"] in bars:
                last = bars[one["bar_start"]]
                assert one["close"] == last["close"]
                assert one["trades"] == last["trades"]
                continue
            assert {one[name] for name in ("open", "high", "low", "close")} == {last["close"]}
            assert [one[name] for name in ("volume", "quote_volume", "buy_volume", "sell_volume", "trades")] == [0] * 5
            assert [one[name] for name in ("vwap", "pressure", "first_trade_id", "last_trade_id")] == [None] * 4
            behind = min(
                (bar for start, bar in bars.items() if start > one["bar_start"]), key=lambda bar: bar["bar_start"]
            )
            assert one["complete"] is (behind["first_trade_id"] == last["last_trade_id"] + 1)


def test_fill_does_not_reach_beyond_the_newest_bar(market: MarketLake, lake: Lake) -> None:
    found = lake.bars("binance", fill="forward", start=START, end="2027-01-01").arrow()
    newest = max(bar["bar_start"] for bar in market.bars(1))
    assert found.column("bar_start").to_pylist()[-1] <= newest


def test_a_range_without_bars(lake: Lake) -> None:
    for options in ({"size": "10m"}, {"fill": "forward"}, {"size": "1h", "fill": "forward"}, {}):
        found = lake.bars("binance", start="2020-01-01", end="2020-01-02", **options)  # type: ignore[arg-type]
        assert found.arrow().num_rows == 0 == found.count()
        assert found.arrow().schema == found.schema
