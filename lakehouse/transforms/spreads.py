"""One-minute bars → one asset's price at every venue, side by side (gold/spreads_1m). Pure, Arrow to Arrow.

The rules:

- A row is a minute in which at least one venue traded the pair. Base and quote are the two parts of the canonical
  symbol: BTC/USD and BTC/USDT are two pairs, and no price is converted.
- `price_<venue>` is the close of that minute there, null where it did not trade. The minute before is not carried on:
  a venue without trades has no price, at the start of its series and at any other time.
- `lowest_venue`, `highest_venue`, `spread` and `spread_bps` are null below two venues. Of venues with equal prices the
  first in SPREAD_VENUES is named. Where all are equal, the first is both, and spread and spread_bps are 0.
- `spread` is exact. `spread_bps` is spread × 10,000 ÷ lowest price, half-up to 18 decimals.

Closes of one minute are not of one instant: each is the price of the venue's last trade within the minute. A spread is
no arbitrage by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lakehouse.errors import TerminalError
from lakehouse.tables import GOLD_SPREADS_1M, SPREAD_VENUES
from lakehouse.transforms.exact import content_schema, half_up_quotient, table_of, values_of

#: Basis points of a whole.
_BASIS_POINTS = 10_000


def spreads(bars: pa.Table) -> pa.Table:
    """The spread rows of one-minute bars with venue, symbol, bar_start, close, in any order; sorted by the table's key.

    All venues' bars of a minute must be there. Raises TerminalError for a venue that has no price column.
    """
    columns = [values_of(bars, name) for name in ("venue", "symbol", "bar_start", "close")]
    for venue in sorted(set(columns[0]) - set(SPREAD_VENUES)):
        raise TerminalError(
            f"bars of the venue {venue!r}",
            f"one with a price column in gold/{GOLD_SPREADS_1M.name}: {', '.join(SPREAD_VENUES)}",
            "add it to SPREAD_VENUES in lakehouse/tables/gold.py",
        )
    closes: dict[tuple[str, str, int], dict[str, int]] = {}
    for venue, symbol, start, close in zip(*columns, strict=True):
        base, quote = symbol.split("/")
        closes.setdefault((base, quote, start), {})[venue] = close
    rows = [
        {"base": base, "quote": quote, "bar_start": start} | _prices(closes[base, quote, start])
        for base, quote, start in sorted(closes)
    ]
    return table_of(content_schema(GOLD_SPREADS_1M), rows)


def _prices(closes: Mapping[str, int]) -> dict[str, Any]:
    """The columns of one minute from its closes by venue, in units of 10⁻¹⁸."""
    row: dict[str, Any] = {f"price_{venue}": closes.get(venue) for venue in SPREAD_VENUES}
    row |= {"venues": len(closes), "lowest_venue": None, "highest_venue": None, "spread": None, "spread_bps": None}
    if len(closes) < 2:
        return row
    traded = [venue for venue in SPREAD_VENUES if venue in closes]
    # Of equals, min and max both take the first.
    row["lowest_venue"] = lowest = min(traded, key=closes.__getitem__)
    row["highest_venue"] = highest = max(traded, key=closes.__getitem__)
    row["spread"] = spread = closes[highest] - closes[lowest]
    row["spread_bps"] = half_up_quotient(spread * _BASIS_POINTS, closes[lowest])
    return row
