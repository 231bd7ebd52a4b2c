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

import pyarrow as pa

from lakehouse import lake
from lakehouse.tables import BARS
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, finished, grouped, wide
from lakehouse.transforms.columns import integers
from lakehouse.transforms.exact import MINUTE_US

_SUMS = ("volume", "quote_volume", "buy_volume")

#: What is read beside the key: neither quotients nor what follows from the rest.
_READ = ("open", "high", "low", "close", *_SUMS, "trades", "first_trade_id", "last_trade_id")


def longer_bars(bars: pa.Table, minutes: int) -> pa.Table:
    """Bars of `minutes`, a length of the registry, from shorter bars in any order; each (key) once.

    Columns BAR_KEY and BAR_VALUES, sorted by BAR_KEY. Raises TerminalError where a sum does not fit DECIMAL(38,18).
    """
    all_fields = lake.arrow_schema(BARS[minutes])
    bars = pa.table({name: bars.column(name).cast(all_fields.field(name).type) for name in (*BAR_KEY, *_READ)})
    rows = bars.sort_by([(name, "ascending") for name in BAR_KEY]).combine_chunks()
    starts, length = integers(rows.column("bar_start")), minutes * MINUTE_US
    columns = {
        "venue": rows.column("venue"),
        "symbol": rows.column("symbol"),
        "bar_start": pa.array(starts - starts % length),
        "row": pa.array(range(rows.num_rows), pa.int64()),
        **{name: rows.column(name) for name in ("high", "low", "trades", "first_trade_id", "last_trade_id")},
        **{name: wide(rows.column(name)) for name in _SUMS},
    }
    windows = grouped(
        pa.table(columns),
        [
            ("row", "min"),
            ("row", "max"),
            ("high", "max"),
            ("low", "min"),
            ("trades", "sum"),
            ("first_trade_id", "min"),
            ("last_trade_id", "max"),
            *((name, "sum") for name in _SUMS),
        ],
    )
    folded = {
        **{name: windows.column(name) for name in BAR_KEY},
        "open": rows.column("open").take(windows.column("row_min")),
        "high": windows.column("high_max"),
        "low": windows.column("low_min"),
        "close": rows.column("close").take(windows.column("row_max")),
        **{name: windows.column(f"{name}_sum") for name in (*_SUMS, "trades")},
        "first_trade_id": windows.column("first_trade_id_min"),
        "last_trade_id": windows.column("last_trade_id_max"),
    }
    schema = pa.schema([all_fields.field(name) for name in (*BAR_KEY, *BAR_VALUES)])
    return finished(pa.table(folded)).cast(schema)
