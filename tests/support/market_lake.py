"""A lake with some days of two markets, written by plain Python, and its brute-force fold. No test module.

Trades come in bursts with quiet minutes between, some out of order across minutes, some missing for good or for now.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from lakehouse.lake.table_io import arrow_schema, open_table
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_CONTINUITY, SILVER_TRADES, Table
from tests.support.rows import NOON_US, bar_row, empty_lake, trade_row, utc

MINUTE = 60_000_000
MARKETS = (("binance", "BTC/USDT"), ("kraken", "ETH/USD"))

Trade = dict[str, Any]


@dataclass
class MarketLake:
    """`trades` are the rows of silver/trades; `gaps` (first, last, state) are the missing ids of a market."""

    settings: Settings
    trades: list[Trade]
    gaps: dict[tuple[str, str], list[tuple[int, int, str]]] = field(default_factory=dict)

    @classmethod
    def written(cls, home: Path, seed: int = 1, hours: int = 30) -> MarketLake:
        rng = random.Random(seed)
        lake = cls(empty_lake(home), [])
        for market in MARKETS:
            lake._make(market, rng, hours)
        lake.write()
        return lake

    def _make(self, market: tuple[str, str], rng: random.Random, hours: int) -> None:
        trade_id, gaps = 1_000, []
        for minute in range(hours * 60):
            if rng.random() < 0.4:  # quiet
                continue
            for _ in range(rng.randint(1, 4)):
                at = NOON_US + minute * MINUTE + rng.randrange(MINUTE)
                if rng.random() < 0.02:  # a time that disagrees with the id
                    at -= rng.randrange(3 * MINUTE)
                self.trades.append(
                    trade_row(
                        trade_id,
                        max(at, NOON_US),
                        venue=market[0],
                        symbol=market[1],
                        price=Decimal(rng.randrange(90_000, 110_000)) / 1000,
                        size=Decimal(rng.randrange(1, 10**8)) / 10**8,
                        side=rng.choice(("buy", "sell")),
                        source="repair" if rng.random() < 0.1 else "live",
                    )
                )
                trade_id += 1
            if rng.random() < 0.01:
                missing = rng.randint(1, 5)
                gaps.append((trade_id, trade_id + missing - 1, rng.choice(("open", "unavailable"))))
                trade_id += missing
        if gaps and gaps[-1][1] == trade_id - 1:  # a ledger ends with a trade
            gaps.pop()
        self.gaps[market] = gaps

    def of(self, market: tuple[str, str]) -> list[Trade]:
        return [one for one in self.trades if (one["venue"], one["symbol"]) == market]

    def write(self) -> None:
        put(self.settings, SILVER_TRADES, self.trades)
        put(self.settings, SILVER_CONTINUITY, [row for market in MARKETS for row in self._ledger(market)])
        for table, minutes in ((GOLD_BARS_1M, 1), (GOLD_BARS_5M, 5)):
            put(self.settings, table, self.bars(minutes))

    def _ledger(self, market: tuple[str, str]) -> list[dict[str, Any]]:
        trades = {one["trade_id"]: one for one in self.of(market)}
        rows, first = [], min(trades)
        for gap_first, gap_last, state in [*self.gaps[market], (max(trades) + 1, max(trades) + 1, "end")]:
            ids = range(first, gap_first)
            repaired = sum(trades[one]["source"] == "repair" for one in ids)
            times = (trades[first]["ts_event"], trades[gap_first - 1]["ts_event"])
            rows.append(_range(market, first, gap_first - 1, "present", times, repaired))
            if state != "end":
                times = (trades[gap_first - 1]["ts_event"], trades[gap_last + 1]["ts_event"])
                rows.append(_range(market, gap_first, gap_last, state, times, 0))
            first = gap_last + 1
        return rows

    def bars(self, minutes: int) -> list[dict[str, Any]]:
        """Every bar of a length, folded trade by trade."""
        return [bar for market in MARKETS for bar in self._bars(market, minutes)]

    def _bars(self, market: tuple[str, str], minutes: int) -> list[dict[str, Any]]:
        trades = self.of(market)
        windows: dict[int, list[Trade]] = {}
        present = {one["trade_id"] for one in trades}
        newest = max(one["ts_event"] for one in trades)
        for one in trades:
            at = micros(one["ts_event"])
            windows.setdefault(at - at % (minutes * MINUTE), []).append(one)
        return [
            fold(
                start, sorted(found, key=lambda one: one["trade_id"]), present, utc(start + minutes * MINUTE) <= newest
            )
            for start, found in sorted(windows.items())
        ]


def fold(start: int, trades: list[Trade], present: set[int], is_final: bool) -> dict[str, Any]:
    """One bar by plain Python; complete if every id from one before its first to one after its last is there."""
    with localcontext() as context:
        context.prec = 76
        volume = sum((one["size"] for one in trades), Decimal(0))
        quote = sum((one["price"] * one["size"] for one in trades), Decimal(0))
        buys = sum((one["size"] for one in trades if one["side"] == "buy"), Decimal(0))
        unit = Decimal(1).scaleb(-18)
        first, last = trades[0]["trade_id"], trades[-1]["trade_id"]
        return bar_row(
            start,
            venue=trades[0]["venue"],
            symbol=trades[0]["symbol"],
            open=trades[0]["price"],
            high=max(one["price"] for one in trades),
            low=min(one["price"] for one in trades),
            close=trades[-1]["price"],
            volume=volume,
            quote_volume=quote,
            vwap=(quote / volume).quantize(unit, ROUND_HALF_UP),
            trades=len(trades),
            buy_volume=buys,
            sell_volume=volume - buys,
            pressure=((buys - (volume - buys)) / volume).quantize(unit, ROUND_HALF_UP),
            first_trade_id=first,
            last_trade_id=last,
            complete=present.issuperset(range(first - 1, last + 2)),
            is_final=is_final,
        )


def micros(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def put(settings: Settings, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a table's rows, in one commit."""
    data = pa.Table.from_pylist(list(rows), schema=arrow_schema(table))
    write_deltalake(open_table(settings, table), data, mode="overwrite")


def _range(
    market: tuple[str, str], first: int, last: int, state: str, times: tuple[Any, Any], repaired: int
) -> dict[str, Any]:
    return {
        "venue": market[0],
        "symbol": market[1],
        "first_id": first,
        "last_id": last,
        "state": state,
        "ts_first": times[0],
        "ts_last": times[1],
        "since": utc(NOON_US),
        "repaired": repaired,
        "trades_version": 1,
        "tries": 1 if state == "unavailable" else None,
        "last_try": utc(NOON_US) if state == "unavailable" else None,
    }
