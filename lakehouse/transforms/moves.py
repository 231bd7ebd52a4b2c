"""One-minute bars → moves: the minutes whose price moved beyond a threshold (gold/moves). Pure, Arrow to Arrow.

The rules:

- A minute is a move where |close − open| > threshold × open, compared exactly: a minute that meets the threshold to the
  last digit is none.
- `direction` is up where it closed above its open, else down.
- `change` is close ÷ open − 1, half-up to 18 decimals. Where it lies less than half of 10⁻¹⁸ above the threshold, the
  figure is equal to the threshold and the row is still there: what was compared is not rounded.

A move is inside a minute, from its first trade to its last: a jump from one minute's close to the next one's open is
none, nor is a high or low that the close comes back from. So the start of a series and minutes without trades need no
rule: a minute with trades is judged by itself, one without is not there.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from lakehouse.tables import GOLD_MOVES
from lakehouse.transforms.decimal18 import content_schema, half_up_quotient, table_of, values_of
from lakehouse.transforms.int128 import Int128

#: Less than 1 by far more than what a double can be off.
_NEARLY = 1 - 2.0**-40

_READ = ("venue", "symbol", "bar_start", "open", "close", "trades", "volume")


def moves(bars: pa.Table, threshold: Decimal) -> pa.Table:
    """The moves among one-minute bars, sorted by the table's key.

    `bars`: venue, symbol, bar_start, open, close, trades, volume, in any order. `threshold` is a part of the open:
    0.02 is two percent.
    """
    part, whole = threshold.as_integer_ratio()
    columns = (values_of(_candidates(bars, threshold), name) for name in _READ)
    rows = [
        {
            "venue": venue,
            "symbol": symbol,
            "bar_start": start,
            "direction": "up" if closed > opened else "down",
            "from_price": opened,
            "to_price": closed,
            "change": half_up_quotient(closed - opened, opened),
            "trades": trades,
            "volume": volume,
        }
        for venue, symbol, start, opened, closed, trades, volume in zip(*columns, strict=True)
        if abs(closed - opened) * whole > part * opened
    ]
    rows.sort(key=lambda row: [row[name] for name in GOLD_MOVES.key])
    return table_of(content_schema(GOLD_MOVES), rows)


def _candidates(bars: pa.Table, threshold: Decimal) -> pa.Table:
    """The bars that moved beyond the threshold, or nearly: most did not by far, which floating numbers tell."""
    opened, closed = Int128.of(bars.column("open")), Int128.of(bars.column("close"))
    distance = closed.minus(opened).magnitude().doubles()
    return bars.filter(pa.array(distance >= opened.doubles() * (float(threshold) * _NEARLY)))
