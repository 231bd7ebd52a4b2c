"""One-minute bars → moves: the minutes whose price moved beyond a threshold (gold/moves). Pure, Arrow to Arrow.

The rules:

- A minute is a move if |close − open| > threshold × open, compared exactly: a minute that equals the threshold is none.
- `direction` is up if it closed above its open, else down.
- `change` is close ÷ open − 1, half-up to 18 decimals. If it exceeds the threshold by less than half of 10⁻¹⁸,
  the rounded figure equals the threshold and the row still exists: the comparison does not round.

A move lies inside a minute, from its first trade to its last. A jump from one minute's close to the next one's open is
no move, nor is a high or low from which the close returns. So the start of a series and minutes without trades need no
rule: each minute with trades is judged by itself.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from lakehouse.tables import GOLD_MOVES
from lakehouse.transforms.decimal18 import content_schema, half_up_quotient, table_of, values_of
from lakehouse.transforms.int128 import Int128

#: Below 1 by far more than the rounding error of a double.
_NEARLY = 1 - 2.0**-40

_READ = ("venue", "symbol", "bar_start", "open", "close", "trades", "volume")


def moves(bars: pa.Table, threshold: Decimal) -> pa.Table:
    """Return the rows of gold/moves: the bars whose price moved from open to close by more than `threshold`, sorted.

    `bars`: venue, symbol, bar_start, open, close, trades, volume, in any order. `threshold` is a fraction of
    the open, up or down: 0.02 is two percent.
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
    """Return the bars that moved beyond the threshold, or nearly so: doubles rule out most of the others cheaply."""
    opened, closed = Int128.of(bars.column("open")), Int128.of(bars.column("close"))
    distance = closed.minus(opened).magnitude().doubles()
    return bars.filter(pa.array(distance >= opened.doubles() * (float(threshold) * _NEARLY)))
