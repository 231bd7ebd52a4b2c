"""One-minute bars → moving averages, rolling VWAPs and returns (gold/indicators_1m). Pure, Arrow to Arrow.

The rules, for a bar that starts at t:

- Windows are over bars, not over minutes: `sma_5` is of this bar and the four bars before it, however many minutes lie
  between them. A minute without trades has no bar: it is not filled in and does not count.
- No window reaches back to t − 240 minutes (LOOKBACK_MINUTES) or further: only bars with start > t − 240 min count.
- `sma_n` is the mean of n closes. `vwap_n` is the sum of n quote volumes ÷ the sum of n volumes, from the exact sums,
  not a mean of the bars' VWAPs. Both are null where fewer than n bars count. So they are at the start of a series (its
  first n − 1 bars), behind a pause of hours until n bars have come again, and for good in a market that trades too
  seldom.
- The bar before is the newest one that counts. `minutes_since_previous` goes from its start to t, 1 to 239;
  `simple_return` is close ÷ its close − 1, `log_return` the natural logarithm of close ÷ its close. All three are null
  where no bar before counts: for the first bar of a series, and for the first one after a pause of four hours. A return
  over minutes without trades is not scaled to a minute; `minutes_since_previous` says how long it took.
- Each figure is computed exactly and rounded once, half-up, to 18 decimals. The logarithm is proved to be right in its
  last decimal: it is computed with more digits until nothing that is unknown of it can change the rounding.

Prices and volumes are positive: Silver's rules see to that. Each (venue, symbol, bar_start) is there once.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from lakehouse import lake
from lakehouse.tables import GOLD_BARS_1M, GOLD_INDICATORS_1M, LOOKBACK_MINUTES, SPANS
from lakehouse.transforms.exact import MINUTE_US, ONE, content_schema, half_up_quotient, table_of, values_of
from lakehouse.transforms.logarithm import half_up_lns

#: A bar's place: venue, symbol, bar_start in microseconds since the epoch, UTC.
BarPlace = tuple[str, str, int]

_READ = ("venue", "symbol", "bar_start", "close", "volume", "quote_volume")
_TYPES = {column.name: lake.arrow_type(column.type) for column in GOLD_BARS_1M.columns}
_LOOKBACK_US = LOOKBACK_MINUTES * MINUTE_US


class _Series(NamedTuple):
    """The bars of one (venue, symbol), by start.

    Sums have one entry more than there are bars: entry i is the sum over the first i bars, in units of 10⁻¹⁸.
    """

    venue: str
    symbol: str
    starts: Sequence[int]
    closes: Sequence[int]
    close_sums: Sequence[int]
    volume_sums: Sequence[int]
    quote_sums: Sequence[int]


def indicators(bars: pa.Table, wanted: Collection[BarPlace] | None = None) -> pa.Table:
    """The indicators of the `wanted` bars that are in `bars`, or of all of them; sorted by the table's key.

    `bars`: one-minute bars in any order with venue, symbol, bar_start, close, volume, quote_volume. For a right row,
    all bars of the LOOKBACK_MINUTES up to it must be there.
    """
    chosen = None if wanted is None else frozenset(wanted)
    rows: list[dict[str, Any]] = []
    returns: list[dict[str, Any]] = []  # of rows that have one, with the close before
    befores: list[int] = []
    for series in _all_series(bars):
        for place, start in enumerate(series.starts):
            if chosen is not None and (series.venue, series.symbol, start) not in chosen:
                continue
            row, before = _row(series, place)
            rows.append(row)
            if before is not None:
                returns.append(row)
                befores.append(before)
    logarithms = half_up_lns([row["close"] for row in returns], befores)
    for row, logarithm in zip(returns, logarithms, strict=True):
        row["log_return"] = logarithm
    return table_of(content_schema(GOLD_INDICATORS_1M), rows)


def affected(bars: pa.Table, touched: Collection[BarPlace]) -> set[BarPlace]:
    """The bars in `bars` whose indicators may differ once the bars at `touched` were inserted, changed or deleted.

    `bars`: the bars as they are afterwards, with venue, symbol, bar_start. For each touched place: the bar there, if
    there is one, and the max(SPANS) − 1 bars behind it that start less than LOOKBACK_MINUTES later.
    """
    places = zip(*(values_of(bars, name) for name in ("venue", "symbol", "bar_start")), strict=True)
    starts_of: dict[tuple[str, str], list[int]] = {(venue, symbol): [] for venue, symbol, _ in touched}
    for venue, symbol, start in places:
        if (venue, symbol) in starts_of:
            starts_of[venue, symbol].append(start)
    for starts in starts_of.values():
        starts.sort()
    found: set[BarPlace] = set()
    done: dict[tuple[str, str], int] = {}
    for venue, symbol, start in sorted(touched):
        starts = starts_of[venue, symbol]
        first = bisect_left(starts, start)
        is_there = first < len(starts) and starts[first] == start
        end = min(first + max(SPANS) - 1 + is_there, bisect_left(starts, start + _LOOKBACK_US))
        # Touched places come in order and so do their ends: what an earlier one has named need not be named again.
        for place in range(max(first, done.get((venue, symbol), 0)), end):
            found.add((venue, symbol, starts[place]))
        done[venue, symbol] = end
    return found


def _all_series(bars: pa.Table) -> Iterator[_Series]:
    # Text in one type: Arrow does not sort views of it, which a file of another writer may hold.
    read = pa.table({name: bars.column(name).cast(_TYPES[name]) for name in _READ})
    in_order = read.sort_by([(name, "ascending") for name in GOLD_BARS_1M.key])
    all_rows = zip(*(values_of(in_order, name) for name in _READ), strict=True)
    for (venue, symbol), rows in itertools.groupby(all_rows, key=lambda row: row[:2]):
        _, _, starts, closes, volumes, quotes = zip(*rows, strict=True)
        sums = (tuple(itertools.accumulate(values, initial=0)) for values in (closes, volumes, quotes))
        yield _Series(venue, symbol, starts, closes, *sums)


def _row(series: _Series, place: int) -> tuple[dict[str, Any], int | None]:
    """The indicators of the series' bar number `place` but its logarithm, and the close before, where that counts."""
    start, close = series.starts[place], series.closes[place]
    row: dict[str, Any] = {"venue": series.venue, "symbol": series.symbol, "bar_start": start, "close": close}
    oldest = start - _LOOKBACK_US
    for span in SPANS:
        first, end = place + 1 - span, place + 1
        row[f"sma_{span}"] = row[f"vwap_{span}"] = None
        if first >= 0 and series.starts[first] > oldest:
            closes = series.close_sums[end] - series.close_sums[first]
            volume = series.volume_sums[end] - series.volume_sums[first]
            quote_volume = series.quote_sums[end] - series.quote_sums[first]
            row[f"sma_{span}"] = half_up_quotient(closes, span * ONE)
            row[f"vwap_{span}"] = half_up_quotient(quote_volume, volume)
    row |= {"minutes_since_previous": None, "simple_return": None, "log_return": None}
    if place == 0 or series.starts[place - 1] <= oldest:
        return row, None
    before = series.closes[place - 1]
    row["minutes_since_previous"] = (start - series.starts[place - 1]) // MINUTE_US
    # The quotient less 1 as one quotient, so that it is rounded once.
    row["simple_return"] = half_up_quotient(close - before, before)
    return row, before
