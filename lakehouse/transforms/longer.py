"""Bars → longer bars: five minutes, an hour, a day from any shorter size that divides it. Pure, Arrow to Arrow.

The same fold as over the trades, one level up, so that it gives the same bars:

- windows are aligned to the epoch, UTC: a day's bar starts at 00:00 UTC, whatever the first trade;
- open is that of the window's first bar, close that of its last, by bar_start; high and low are the extremes;
- volume, quote_volume, buy_volume, sell_volume and trades are exact sums;
- first_trade_id is the lowest, last_trade_id the highest of the window's bars;
- vwap and pressure are made anew from the exact sums, half-up to 18 decimals. They are not averages of the shorter
  bars' figures, which are rounded. So 1 → 5 → 60 minutes equals 1 → 60.

Minutes without trades have no bar and add nothing. A window without any bar gives no bar: none is filled in. The first
window of a series is a bar of what there is, and so is the window that the newest trade lies in.

The shorter bars of a window must be given all: which are missing cannot be seen here.
"""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa

from lakehouse import lake
from lakehouse.tables import BARS
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES
from lakehouse.transforms.exact import MINUTE_US, half_up_quotient, table_of, values_of

#: What is read: all but the quotients.
_READ = (*BAR_KEY, *(name for name in BAR_VALUES if name not in ("vwap", "pressure")))
_SUMS = ("volume", "quote_volume", "trades", "buy_volume", "sell_volume")


def longer_bars(bars: pa.Table, minutes: int) -> pa.Table:
    """Bars of `minutes`, a length of the registry, from shorter bars in any order; each (key) once.

    Columns BAR_KEY and BAR_VALUES, sorted by BAR_KEY.
    """
    all_fields = lake.arrow_schema(BARS[minutes])
    schema = pa.schema([all_fields.field(name) for name in (*BAR_KEY, *BAR_VALUES)])
    length = minutes * MINUTE_US
    in_order = sorted(zip(*(values_of(bars, name) for name in _READ), strict=True))
    windows = itertools.groupby(in_order, key=lambda row: (row[0], row[1], row[2] - row[2] % length))
    folded = []
    for key, rows in windows:
        shorter = dict(zip(_READ, zip(*rows, strict=True), strict=True))
        folded.append(dict(zip(BAR_KEY, key, strict=True)) | _fold(shorter))
    return table_of(schema, folded)


def _fold(shorter: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The values of one bar from the columns of its shorter bars, which are in order; decimals in units of 10⁻¹⁸."""
    sums = {name: sum(shorter[name]) for name in _SUMS}
    return {
        "open": shorter["open"][0],
        "high": max(shorter["high"]),
        "low": min(shorter["low"]),
        "close": shorter["close"][-1],
        **sums,
        "vwap": half_up_quotient(sums["quote_volume"], sums["volume"]),
        "pressure": half_up_quotient(sums["buy_volume"] - sums["sell_volume"], sums["volume"]),
        "first_trade_id": min(shorter["first_trade_id"]),
        "last_trade_id": max(shorter["last_trade_id"]),
    }
