"""One-minute bars → one asset's price at every venue, side by side (gold/spreads_1m). Pure, Arrow to Arrow.

The rules:

- A row is a minute in which at least one venue traded the pair. Base and quote are the two parts of the canonical
  symbol: BTC/USD and BTC/USDT are two pairs, and no price is converted.
- `price_<venue>` is the venue's close of that minute, null if it did not trade. The minute before is never carried
  forward: a venue without trades has no price.
- `lowest_venue`, `highest_venue`, `spread` and `spread_bps` are null below two venues. If venues have equal
  prices, the first in SPREAD_VENUES is named. If all are equal, the first is both, and spread and spread_bps are 0.
- `spread` is exact. `spread_bps` is spread × 10,000 ÷ lowest price, half-up to 18 decimals.

Closes of one minute are not simultaneous: each is the price of the venue's last trade within the minute. So a spread
alone is no arbitrage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import TerminalError
from lakehouse.tables import GOLD_BARS_1M, GOLD_SPREADS_1M, SPREAD_VENUES
from lakehouse.transforms.arrow_numpy import Integers, Mask, coded
from lakehouse.transforms.decimal18 import content_schema, half_up_quotient
from lakehouse.transforms.int128 import Int128
from lakehouse.transforms.quotients import half_up_quotients
from lakehouse.transforms.row_keys import RowKeys, codes

#: Number of basis points in 1.
BASIS_POINTS = 10_000
#: High half of a spread from which its basis points exceed 2¹²⁶.
_MOST_SPREAD = np.uint64(1 << 48)


def spreads(bars: pa.Table) -> pa.Table:
    """Compute the spread rows of one-minute bars, sorted by the table's key.

    `bars`: venue, symbol, bar_start, close, in any order, with all venues' bars of each minute. Raises TerminalError
    for a venue that has no price column.
    """
    venues, venue = coded(bars.column("venue"))
    for name in sorted(set(venues) - set(SPREAD_VENUES)):
        raise TerminalError(
            f"bars of the venue {name!r}",
            f"one with a price column in gold/{GOLD_SPREADS_1M.name}: {', '.join(SPREAD_VENUES)}",
            "add it to SPREAD_VENUES in lakehouse/tables/gold.py",
        )
    keys = pairs_of(RowKeys.of(bars, GOLD_BARS_1M.key))
    _, of_row, minute = np.unique(codes(keys)[0], return_index=True, return_inverse=True)
    there, prices = [], []
    for name in SPREAD_VENUES:
        rows = np.flatnonzero(venue == venues.index(name)) if name in venues else np.array([], np.int64)
        there.append(np.zeros(len(of_row), np.bool_))
        there[-1][minute[rows]] = True
        prices.append(Int128.zeros(len(of_row)))
        prices[-1].put(minute[rows], Int128.of(bars.column("close").take(rows)))
    return _rows(keys.at(of_row), there, prices)


def pairs_of(keys: RowKeys) -> RowKeys:
    """Convert keys of bars to keys of spreads: base, quote, start.

    A bar that somebody else inserted may have a symbol that is no pair; its key matches no spread.
    """
    symbols, symbol = coded(keys.second)
    parts = [name.partition("/") for name in symbols]
    base, quote = (pa.array([part[at] for part in parts], pa.string()).dictionary_encode() for at in (0, 2))
    return RowKeys(base.take(pa.array(symbol)), quote.take(pa.array(symbol)), keys.start)


def _rows(keys: RowKeys, there: Sequence[Mask], prices: Sequence[Int128]) -> pa.Table:
    """Build rows from each venue's prices and the masks of minutes that have one, in the order of SPREAD_VENUES."""
    schema = content_schema(GOLD_SPREADS_1M)
    venues = np.sum(there, axis=0)
    several = venues >= 2
    lowest = highest = np.zeros(len(keys), np.int64)
    low = high = Int128.zeros(len(keys))
    known = np.zeros(len(keys), np.bool_)
    for number, (has_price, price) in enumerate(zip(there, prices, strict=True)):
        # The first of equal prices stays.
        is_lower, is_higher = has_price & (~known | price.below(low)), has_price & (~known | high.below(price))
        lowest, highest = np.where(is_lower, number, lowest), np.where(is_higher, number, highest)
        low, high = price.where(is_lower, low), price.where(is_higher, high)
        known |= has_price
    spread = high.minus(low)
    names = pa.array(SPREAD_VENUES)
    columns = {
        "base": keys.first,
        "quote": keys.second,
        "bar_start": pa.array(keys.start).cast(schema.field("bar_start").type),
        **{
            f"price_{name}": price.decimals(has_price)
            for name, has_price, price in zip(SPREAD_VENUES, there, prices, strict=True)
        },
        "venues": pa.array(venues.astype(np.int32)),
        "lowest_venue": names.take(_some(lowest, several)),
        "highest_venue": names.take(_some(highest, several)),
        "spread": spread.decimals(several),
        "spread_bps": _basis_points(spread, low, several),
    }
    return pa.table(columns).select(schema.names).cast(schema)


def _some(numbers: Integers, there: Mask) -> Any:
    """Return the numbers, null if the mask is false."""
    return pa.array(numbers, mask=~there)


def _basis_points(spread: Int128, lowest: Int128, there: Mask) -> pa.Array[Any]:
    """Compute spread × 10,000 ÷ lowest price; null if there is no spread."""
    rows = np.flatnonzero(there)
    tops, bottoms = spread.at(rows), lowest.at(rows)
    huge = np.flatnonzero(tops.high >= _MOST_SPREAD)
    tops.put(huge, Int128.zeros(len(huge)))
    found = half_up_quotients(tops.times(np.uint64(BASIS_POINTS)), bottoms)
    if len(huge):
        pairs = zip(spread.at(rows[huge]).ints(), bottoms.at(huge).ints(), strict=True)
        found = found.corrected(huge, [half_up_quotient(top * BASIS_POINTS, bottom) for top, bottom in pairs])
    return found.column(rows, len(there))
