"""Rows of the tables for tests: right by default, with single columns overridden. No test module."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from lakehouse.lake.table_io import ensure_tables
from lakehouse.settings import Settings, load_settings
from lakehouse.simulator.record import HEADER, ROW, Row, file_of

#: 2026-11-01 12:00:00 UTC, the start of a one- and a five-minute bar, in microseconds.
NOON_US = 1_793_534_400_000_000


def empty_lake(home: Path) -> Settings:
    """A lake with all tables and no rows."""
    settings = load_settings(home=home)
    ensure_tables(settings)
    return settings


def utc(microseconds: int) -> dt.datetime:
    """Exact, unlike a float timestamp."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)


def message_row(offset: int, at: int = NOON_US, **columns: Any) -> dict[str, Any]:
    row = {
        "topic": "crypto.trades",
        "partition": 0,
        "offset": offset,
        "ts_kafka": utc(at),
        "ts_type": 0,
        "key": b"BTC/USDT",
        "value_raw": b"{}",
        "ingest_date": utc(at).date(),
    }
    return row | columns


def trade_row(trade_id: int, at: int = NOON_US, **columns: Any) -> dict[str, Any]:
    row = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "trade_id": trade_id,
        "native_symbol": "BTCUSDT",
        "price": Decimal("100.5"),
        "size": Decimal("0.25"),
        "side": "buy",
        "ts_event": utc(at),
        "ts_ingest": utc(at),
        "source": "live",
        "kafka_topic": "crypto.trades",
        "kafka_partition": 0,
        "kafka_offset": trade_id,
        "ts_kafka": utc(at),
        "event_date": utc(at).date(),
    }
    return row | columns


def bar_row(at: int = NOON_US, **columns: Any) -> dict[str, Any]:
    row = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": utc(at),
        "open": Decimal(10),
        "high": Decimal(12),
        "low": Decimal(9),
        "close": Decimal(11),
        "volume": Decimal(4),
        "quote_volume": Decimal(42),
        "vwap": Decimal("10.5"),
        "trades": 3,
        "buy_volume": Decimal(3),
        "sell_volume": Decimal(1),
        "pressure": Decimal("0.5"),
        "first_trade_id": 1,
        "last_trade_id": 3,
        "complete": False,
        "is_final": False,
        "revision": 1,
        "updated_at": utc(at),
        "bar_date": utc(at).date(),
    }
    return row | columns


def range_row(first_id: int, last_id: int, state: str = "present", **columns: Any) -> dict[str, Any]:
    """A range of the ledger of ids, silver/continuity."""
    row = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "first_id": first_id,
        "last_id": last_id,
        "state": state,
        "ts_first": None,
        "ts_last": None,
        "since": utc(NOON_US),
        "repaired": 0,
        "trades_version": 0,
        "tries": None,
        "last_try": None,
    }
    return row | columns


def batch_row(query: str, batch_id: int, at: int = NOON_US, **columns: Any) -> dict[str, Any]:
    """`source_end` and `versions` may be given as dicts."""
    row: dict[str, Any] = {
        "query": query,
        "generation": "first",
        "batch_id": batch_id,
        "run_id": "test",
        "started_at": utc(at),
        "committed_at": utc(at),
        "source_start": "{}",
        "source_end": {"version": 0},
        "rows_in": 0,
        "rows_out": 0,
        "rows_duplicate": 0,
        "rows_quarantined": 0,
        "rows_feed_events": 0,
        "versions": {},
        "batch_date": utc(at).date(),
    }
    row |= columns
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}


def bar_rows(bars: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a bars table from the judge's bars."""
    return [bar_row(bar["bar_start"], **{**bar, "bar_start": utc(bar["bar_start"])}) for bar in bars]


def write_record(folder: Path, trades: Mapping[tuple[str, str], Iterable[Row]]) -> None:
    """A simulator's record, written row by row."""
    for (venue, symbol), rows in trades.items():
        path = file_of(folder, venue, symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(HEADER + b"".join(ROW.pack(*row) for row in rows))
