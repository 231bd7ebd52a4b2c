"""One-minute bars → moving averages, rolling VWAPs and returns (gold/indicators_1m). Pure, Arrow to Arrow.

The rules, for a bar that starts at t:

- Windows are over bars, not over minutes: `sma_5` covers this bar and the four bars before it, however many minutes lie
  between them. A minute without trades has no bar: it is not filled in and does not count.
- No window reaches back to t − 240 minutes (LOOKBACK_MINUTES) or further: only bars with start > t − 240 min count.
- `sma_n` is the mean of n closes. `vwap_n` is the sum of n quote volumes ÷ the sum of n volumes, from the exact sums,
  not a mean of the bars' VWAPs. Both are null if fewer than n bars count: at the start of a series (its first
  n − 1 bars), after a pause of hours until n bars have come again, and always in a market that trades too seldom.
- The bar before is the newest one that counts. `minutes_since_previous` is the time from its start to t, 1 to 239;
  `simple_return` is close ÷ its close − 1, `log_return` the natural logarithm of close ÷ its close. All three are null
  if no bar before counts: for the first bar of a series, and for the first one after a pause of four hours. A return
  over minutes without trades is not scaled to a minute; `minutes_since_previous` says how long it took.
- Each figure is computed exactly and rounded once, half-up, to 18 decimals. The logarithm is proved right in
  its last decimal: it is computed with more digits until the remaining error cannot change the rounding.

Prices and volumes are positive: Silver's rules see to that. Each (venue, symbol, bar_start) occurs once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lakehouse.tables import GOLD_BARS_1M, GOLD_INDICATORS_1M, LOOKBACK_MINUTES, SPANS
from lakehouse.transforms.arrow_numpy import Integers
from lakehouse.transforms.decimal18 import MINUTE_US, ONE, content_schema, half_up_quotient
from lakehouse.transforms.int128 import Int128, Sums
from lakehouse.transforms.logarithm import half_up_lns
from lakehouse.transforms.quotients import Figures, half_up_means, half_up_quotients
from lakehouse.transforms.row_keys import RowKeys, codes, is_in

_READ = ("venue", "symbol", "bar_start", "close", "volume", "quote_volume")
_LOOKBACK_US = LOOKBACK_MINUTES * MINUTE_US
_SCHEMA = content_schema(GOLD_INDICATORS_1M)


class _Bars(NamedTuple):
    """Bars sorted by (venue, symbol) and start."""

    keys: RowKeys
    begin: Integers  #: for each bar, the row of its series' first bar
    close: Int128
    volume: Int128
    quote_volume: Int128


def indicators(bars: pa.Table, wanted: RowKeys | None = None) -> pa.Table:
    """Compute the indicators of the `wanted` bars that are in `bars`, or of all; sorted by the table's key.

    `bars`: one-minute bars in any order with venue, symbol, bar_start, close, volume, quote_volume. A row is right only
    if `bars` has all bars of the LOOKBACK_MINUTES up to it.
    """
    keys = RowKeys.of(bars, GOLD_BARS_1M.key)
    if wanted is None:
        (ours,), chosen = codes(keys), None
    else:
        ours, theirs = codes(keys, wanted)
        chosen = is_in(ours, theirs)
    order = np.argsort(ours, kind="stable")
    rows = np.arange(len(order)) if chosen is None else np.flatnonzero(chosen[order])
    keys = keys.at(order)
    figures = (Int128.of(bars.column(name).take(order)) for name in _READ[3:])
    begin = np.maximum.accumulate(np.where(keys.begins(), np.arange(len(order)), 0))
    series = _Bars(keys, begin, *figures)
    here = keys.at(rows)
    columns = {
        "venue": here.first,
        "symbol": here.second,
        "bar_start": pa.array(here.start).cast(_SCHEMA.field("bar_start").type),
        "close": series.close.at(rows).decimals(),
        **_means(series, rows),
        **_returns(series, rows),
    }
    return pa.table({name: columns[name] for name in _SCHEMA.names}).cast(_SCHEMA)


def affected(bars: pa.Table, touched: RowKeys) -> RowKeys:
    """Return the bars in `bars` whose indicators may change if the bars at `touched` were inserted, changed or deleted.

    `bars`: the bars afterwards, with venue, symbol, bar_start. For each touched key: the bar there, if there is one,
    and the next max(SPANS) − 1 bars that start less than LOOKBACK_MINUTES later.
    """
    keys = RowKeys.of(bars, GOLD_BARS_1M.key)
    ours, theirs, ends = codes(keys, touched, touched.starting(touched.start + _LOOKBACK_US))
    order = np.argsort(ours, kind="stable")
    ours = ours[order]
    first = np.searchsorted(ours, theirs)
    is_there = np.searchsorted(ours, theirs, side="right") > first
    end = np.minimum(first + max(SPANS) - 1 + is_there, np.searchsorted(ours, ends))
    # For each bar, in how many of the runs from `first` to `end` it lies.
    steps = np.zeros(len(ours) + 1, np.int64)
    np.add.at(steps, first, 1)
    np.add.at(steps, end, -1)
    return keys.at(order[np.cumsum(steps)[:-1] > 0])


def _means(bars: _Bars, rows: Integers) -> dict[str, pa.Array[Any]]:
    """Compute moving averages and rolling VWAPs of the given rows."""
    closes, quote_volumes, volumes = (Sums(values) for values in (bars.close, bars.quote_volume, bars.volume))
    starts = bars.keys.start
    found = {}
    for span in SPANS:
        first = rows + 1 - span
        enough = first >= bars.begin[rows]
        enough[enough] = starts[first[enough]] > starts[rows[enough]] - _LOOKBACK_US
        which = np.flatnonzero(enough)
        first, end = first[which], rows[which] + 1
        found[f"sma_{span}"] = _quotients(closes, span, first, end).column(which, len(rows))
        found[f"vwap_{span}"] = _quotients(quote_volumes, volumes, first, end).column(which, len(rows))
    return found


def _quotients(tops: Sums, bottoms: Sums | int, first: Integers, end: Integers) -> Figures:
    """Divide, per window, a sum by another sum, or by the number of bars."""
    top, beyond = tops.between(first, end)
    if isinstance(bottoms, int):
        huge = np.flatnonzero(beyond)
        top.put(huge, Int128.zeros(len(huge)))
        found = half_up_means(top, bottoms)
    else:
        bottom, also_beyond = bottoms.between(first, end)
        huge = np.flatnonzero(beyond | also_beyond)
        top.put(huge, Int128.zeros(len(huge)))
        bottom.put(huge, Int128.of_small(np.ones(len(huge), np.int64)))
        found = half_up_quotients(top, bottom)
    if not len(huge):
        return found
    exact = []
    for at, to in zip(first[huge].tolist(), end[huge].tolist(), strict=True):
        divisor = bottoms * ONE if isinstance(bottoms, int) else bottoms.exactly(at, to)
        exact.append(half_up_quotient(tops.exactly(at, to), divisor))
    return found.corrected(huge, exact)


def _returns(bars: _Bars, rows: Integers) -> dict[str, pa.Array[Any]]:
    """Compute minutes and both returns since the bar before; null if none counts."""
    starts = bars.keys.start
    counts = rows > bars.begin[rows]
    counts[counts] = starts[rows[counts] - 1] > starts[rows[counts]] - _LOOKBACK_US
    which = np.flatnonzero(counts)
    close, before = bars.close.at(rows[which]), bars.close.at(rows[which] - 1)
    minutes = np.zeros(len(rows), np.int32)
    minutes[which] = (starts[rows[which]] - starts[rows[which] - 1]) // MINUTE_US
    # The quotient less 1 as one quotient, so that it is rounded once.
    simple = half_up_quotients(close.minus(before), before)
    logarithms = half_up_lns(close, before)
    return {
        "minutes_since_previous": pa.array(minutes, mask=~counts),
        "simple_return": simple.column(which, len(rows)),
        "log_return": Figures(logarithms, np.ones(len(which), np.bool_)).column(which, len(rows)),
    }
