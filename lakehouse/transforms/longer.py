"""Bars → longer bars: five minutes, an hour, a day from any shorter size that divides it. Pure, Arrow to Arrow.

The same fold as over the trades, one level up, so that it gives the same bars:

- windows are aligned to the epoch, UTC: a day's bar starts at 00:00 UTC, whatever the first trade;
- open is that of the bar with the lowest trade id, close that of the bar with the highest: the window's first and last,
  but where a venue's ids and times disagree across minutes; high and low are the extremes;
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

from lakehouse.lake import table_io
from lakehouse.tables import BARS
from lakehouse.transforms.arrow_numpy import integers
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, PARTS, finished, joined
from lakehouse.transforms.decimal18 import MINUTE_US

#: What is read of a shorter bar.
SHORTER_COLUMNS = (
    *BAR_KEY,
    *("open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "trades"),
    *("first_trade_id", "last_trade_id"),
)


def longer_bars(bars: pa.Table, minutes: int) -> pa.Table:
    """Bars of `minutes`, a length of the registry, from shorter bars (SHORTER_COLUMNS) in any order; each (key) once.

    Columns BAR_KEY and BAR_VALUES, sorted by BAR_KEY. Raises TerminalError where a sum does not fit DECIMAL(38,18).
    """
    fields = table_io.arrow_schema(BARS[minutes])
    starts = integers(bars.column("bar_start").cast(fields.field("bar_start").type))
    # Each shorter bar is a part of the longer one. Its newest trade's time is not known, and no column of a bar.
    made = {"bar_start": starts - starts % (minutes * MINUTE_US), "newest_ts": starts}
    parts = pa.table({name: made[name] if name in made else bars.column(name) for name in PARTS.names})
    schema = pa.schema([fields.field(name) for name in (*BAR_KEY, *BAR_VALUES)])
    return finished(joined([parts.cast(PARTS)])).cast(schema)
