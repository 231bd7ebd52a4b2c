"""Bars that no table holds: bars of a size that Gold lacks, and of minutes without trades. Pure, Arrow to Arrow."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError
from lakehouse.id_ranges import IdRanges
from lakehouse.lake import table_io
from lakehouse.tables import BAR_MINUTES, GOLD_BARS_1M
from lakehouse.transforms.arrow_numpy import differs, integers
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, SHORTER_COLUMNS, roll_up
from lakehouse.transforms.decimal18 import MINUTE_US

_DAY = 1440
_SIZE = re.compile(r"([1-9]\d{0,3})([mhd])")
_UNIT = {"m": 1, "h": 60, "d": _DAY}

#: How far before a range `fill="forward"` looks for the last bar, whose close it carries into the range.
CARRY = dt.timedelta(days=1)

#: Columns that are missing in bars rolled up here: nobody has written them.
_NOT_WRITTEN = ("revision",)
#: Columns that are missing in a minute without trades.
_NO_TRADES = ("vwap", "pressure", "first_trade_id", "last_trade_id", "revision", "updated_at")
#: Columns of bars that may be null, of whatever size and filling.
NULLABLE = _NO_TRADES

_STORED = table_io.arrow_schema(GOLD_BARS_1M)


def minutes_of(size: str) -> int:
    """Return the length in minutes of a size such as 1m, 10m, 4h or 1d, or raise SettingError.

    Windows are aligned to 00:00 UTC, so a size must divide a day.
    """
    found = _SIZE.fullmatch(size)
    minutes = int(found[1]) * _UNIT[found[2]] if found else 0
    if not minutes or _DAY % minutes:
        raise SettingError(
            f"bar size {size!r}", f"{', '.join(BAR_MINUTES)}, or another that divides a day, such as 10m or 4h"
        )
    return minutes


def with_nulls(schema: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    """Return the schema with some columns nullable."""
    return pa.schema([field.with_nullable(True) if field.name in names else field for field in schema])


def rolled_up(bars: pa.Table, shorter: int, minutes: int, wanted: TimeRange) -> pa.Table:
    """Return the bars of `minutes` that start in the range `wanted`, from bars of `shorter` minutes in any order.

    `bars` must hold all shorter bars of each wanted window, and those of one more window on either side: a bar is
    `complete` if the ids of complete shorter bars prove it, and these may lie in the next window. It is final if a
    final shorter bar of its market ends with it or later. `updated_at` is the latest one of its shorter bars;
    `revision` is null, because the bar is not stored.
    """
    schema = with_nulls(_STORED, _NOT_WRITTEN)
    longer = roll_up(bars.select(SHORTER_COLUMNS), minutes)
    if not longer.num_rows:
        return schema.empty_table()
    bars = bars.sort_by([(name, "ascending") for name in BAR_KEY])
    starts = integers(longer.column("bar_start"))
    of_shorter = integers(bars.column("bar_start"))
    # Both are sorted by market and time, so each window's shorter bars stand together, in the order of `longer`.
    window = of_shorter - of_shorter % (minutes * MINUTE_US)
    begins = np.flatnonzero(differs(window) | _new_market(bars))
    flags = [
        _flags(bars.slice(*part), longer.slice(*whole), shorter, minutes) for part, whole in _markets(bars, longer)
    ]
    columns: dict[str, Any] = {name: longer.column(name) for name in (*BAR_KEY, *BAR_VALUES)}
    columns["complete"] = pa.array([one for complete, _ in flags for one in complete], pa.bool_())
    columns["is_final"] = pa.array([one for _, final in flags for one in final], pa.bool_())
    columns["revision"] = pa.nulls(len(starts), pa.int64())
    columns["updated_at"] = pa.array(np.maximum.reduceat(integers(bars.column("updated_at")), begins), pa.int64()).cast(
        schema.field("updated_at").type
    )
    columns["bar_date"] = longer.column("bar_start").cast(pa.date32())
    made = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return within(made, wanted)


def within(bars: pa.Table, wanted: TimeRange) -> pa.Table:
    """Return the bars that start in a range."""
    starts = integers(bars.column("bar_start"))
    chosen = np.ones(len(starts), np.bool_)
    if wanted.start is not None:
        chosen &= starts >= micros(wanted.start)
    if wanted.end is not None:
        chosen &= starts < micros(wanted.end)
    return bars.filter(pa.array(chosen))


def micros(moment: dt.datetime) -> int:
    """Return a time as µs since the epoch."""
    return (moment - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(microseconds=1)


def _new_market(bars: pa.Table) -> Any:
    pairs = list(zip(bars.column("venue").to_pylist(), bars.column("symbol").to_pylist(), strict=True))
    return np.array([not at or pairs[at] != pairs[at - 1] for at in range(len(pairs))], np.bool_)


def _runs(rows: pa.Table) -> Iterator[tuple[int, int]]:
    """Yield the offset and length of each market's rows, which stand together."""
    keys = zip(rows.column("venue").to_pylist(), rows.column("symbol").to_pylist(), strict=True)
    offset = 0
    for _, group in groupby(keys):
        length = sum(1 for _ in group)
        yield offset, length
        offset += length


def _markets(bars: pa.Table, longer: pa.Table) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    return zip(_runs(bars), _runs(longer), strict=True)


def _flags(bars: pa.Table, longer: pa.Table, shorter: int, minutes: int) -> tuple[list[bool], Any]:
    """Return `complete` and `is_final` of one market's longer bars."""
    firsts, lasts = (integers(bars.column(name)).tolist() for name in ("first_trade_id", "last_trade_id"))
    proved = IdRanges()
    for first, last, complete in zip(firsts, lasts, bars.column("complete").to_pylist(), strict=True):
        if complete:  # Silver has all ids from one before the bar's first to one after its last
            proved.add(first - 1, last + 1)
    ids = zip(*(integers(longer.column(name)).tolist() for name in ("first_trade_id", "last_trade_id")), strict=True)
    final = bars.filter(bars.column("is_final"))
    over = int(integers(final.column("bar_start")).max()) + shorter * MINUTE_US if final.num_rows else 0
    ends = integers(longer.column("bar_start")) + minutes * MINUTE_US
    return [proved.covers(first - 1, last + 1) for first, last in ids], (ends <= over).tolist()


def filled(bars: pa.Table, minutes: int, wanted: TimeRange, until: dt.datetime | None) -> pa.Table:
    """Add a bar for each window without trades, and return the bars that start in the range `wanted`.

    A market's windows are filled from its first bar in `bars` to its last, or up to the time `until` if that is later.
    In an added bar open, high, low and close are the close of the bar before, volumes and trades are 0, and columns
    that only trades have are null. It is complete if the ids of the bars around it follow each other: the venue had no
    trade between.
    """
    schema = with_nulls(bars.schema, _NO_TRADES)
    parts = [bars.slice(*run) for run in _runs(bars)]
    rows = [_filled(part.sort_by("bar_start"), minutes, until, schema) for part in parts]
    return within(pa.concat_tables([schema.empty_table(), *rows]), wanted)


def _filled(bars: pa.Table, minutes: int, until: dt.datetime | None, schema: pa.Schema) -> pa.Table:
    length = minutes * MINUTE_US
    starts = integers(bars.column("bar_start"))
    end = max(int(starts[-1]) + length, 0 if until is None else micros(until))
    every = np.arange(starts[0], end, length)
    before = np.searchsorted(starts, every, side="right") - 1
    empty = starts[before] != every
    behind = np.minimum(before + 1, len(starts) - 1)
    firsts, lasts = integers(bars.column("first_trade_id")), integers(bars.column("last_trade_id"))
    joined = (firsts[behind] == lasts[before] + 1) & (behind > before)
    carried = bars.take(before)
    zero = pa.scalar(0).cast(pa.decimal128(38, 18))
    mask = pa.array(empty)
    columns: dict[str, Any] = {name: carried.column(name) for name in schema.names}
    closes = columns["close"]
    for name in ("open", "high", "low"):
        columns[name] = pc.if_else(mask, closes, columns[name])
    for name in ("volume", "quote_volume", "buy_volume", "sell_volume"):
        columns[name] = pc.if_else(mask, zero, columns[name])
    columns["trades"] = pc.if_else(mask, pa.scalar(0, pa.int64()), columns["trades"])
    for name in _NO_TRADES:
        columns[name] = pc.if_else(mask, pa.scalar(None, schema.field(name).type), columns[name])
    columns["complete"] = pc.if_else(mask, pa.array(joined), columns["complete"])
    columns["is_final"] = pc.if_else(mask, pa.array(behind > before), columns["is_final"])
    columns["bar_start"] = pa.array(every).cast(schema.field("bar_start").type)
    columns["bar_date"] = columns["bar_start"].cast(pa.date32())
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)
