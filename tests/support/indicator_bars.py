"""One-minute bars for the tests of the indicators, and their indicators, with places as tuples."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pyarrow as pa

from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import GOLD_BARS_1M
from lakehouse.transforms import indicators as under_test
from lakehouse.transforms.row_keys import RowKey as BarPlace
from lakehouse.transforms.row_keys import RowKeys

MINUTE = 60_000_000
#: 2026-01-01 00:00 UTC.
NEW_YEAR = 1_767_225_600_000_000
READ = ("venue", "symbol", "bar_start", "close", "volume", "quote_volume")
SCHEMA = pa.schema([arrow_schema(GOLD_BARS_1M).field(name) for name in READ])
Bar = dict[str, Any]
Bars = dict[BarPlace, Bar]


def place(minute: int, venue: str = "binance", symbol: str = "BTC/USDT") -> BarPlace:
    return venue, symbol, NEW_YEAR + minute * MINUTE


def bar(
    minute: int,
    close: str = "1",
    volume: str = "1",
    quote_volume: str = "1",
    venue: str = "binance",
    symbol: str = "BTC/USDT",
) -> Bar:
    figures = {"close": Decimal(close), "volume": Decimal(volume), "quote_volume": Decimal(quote_volume)}
    return dict(zip(READ[:3], place(minute, venue, symbol), strict=True)) | figures


def table(bars: Collection[Bar]) -> pa.Table:
    return pa.Table.from_pylist(list(bars), schema=SCHEMA)


def indicators(bars: pa.Table, wanted: Collection[BarPlace] | None = None) -> pa.Table:
    """With places as tuples, as all of these tests write them."""
    return under_test.indicators(bars, None if wanted is None else RowKeys.of_tuples(wanted))


def affected(bars: pa.Table, touched: Collection[BarPlace]) -> set[BarPlace]:
    found = under_test.affected(bars, RowKeys.of_tuples(touched)).tuples()
    assert len(set(found)) == len(found)
    return set(found)


def rows(bars: Collection[Bar], wanted: Collection[BarPlace] | None = None) -> list[dict[str, Any]]:
    """The indicators, with bar_start in µs since the epoch."""
    found = indicators(table(bars), wanted)
    return found.set_column(2, "bar_start", found.column("bar_start").cast(pa.int64())).to_pylist()
