"""One-minute bars from Silver, at one of its versions.

Trades are read unit by unit (`tasks`); only parts of bars come to the driver. `touched_bars` reads the trades of a
batch, this module those of some minutes.

A part of a bar is the fold over some of its trades; parts can be joined.
Guarantee: a bar is the fold over all trades of its minute that silver/trades holds at a version. If a batch is known to
hold all rows between two versions, they are not read a second time: its own parts of bars are joined with those of the
trades before it. The stream still has these from the batch before, or reads them; for a new minute Delta's statistics
let it open no file.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.settings import Settings
from lakehouse.streams import batch_plan
from lakehouse.streams.batch_plan import UNIT_MESSAGES, paths_of
from lakehouse.streams.gold_rows import only, places_of
from lakehouse.streams.kept_trades import in_files
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from lakehouse.transforms.arrow_numpy import integers
from lakehouse.transforms.bars import PARTS, TRADE_COLUMNS, fold, joined
from lakehouse.transforms.decimal18 import MINUTE_US
from lakehouse.transforms.row_keys import RowKeys
from lakehouse.transforms.time_ranges import TimeRange, ranges_around

MINUTE = dt.timedelta(minutes=1)

#: Number of minutes whose parts of bars a stream keeps: the trades of most batches are of the newest two.
KEPT_MINUTES = 3

#: Number of parts of bars from which on they are joined: few enough for memory, enough to be worth it.
_JOIN_ROWS = 200_000


@dataclass(frozen=True)
class Since:
    """All trades that silver/trades has got since a version of it, as parts of bars."""

    version: int
    parts: pa.Table


@dataclass(frozen=True)
class MinutesUnit:
    """Data files of silver/trades, at `paths` below its root, of which the trades in some ranges of time are folded."""

    settings: Settings
    paths: tuple[str, ...]
    ranges: tuple[TimeRange, ...]


@dataclass(frozen=True)
class MinutesFolded:
    """The result of a unit: a part for each bar of its trades. `process` has folded them."""

    parts: pa.Table
    process: int


def fold_minutes(unit: MinutesUnit) -> MinutesFolded:
    """Fold a unit's trades. Raises OSError if a file cannot be read."""
    trades = in_files(unit.settings, unit.paths)(unit.ranges, TRADE_COLUMNS)
    return MinutesFolded(one_a_bar(map(fold, trades)), os.getpid())


def minute_parts(
    settings: Settings, version: int, ranges: Sequence[TimeRange], tasks: Tasks, places: RowKeys | None = None
) -> pa.Table:
    """Fold the trades in some ranges of time, of Silver at a version, to one part for each one-minute bar.

    If `places` are given, return those of these bars only.
    """
    files = batch_plan.files_in(settings, SILVER_TRADES, version, ranges) if version >= 0 and ranges else []
    mine = settings.for_executors()
    units = [MinutesUnit(mine, paths_of(some), tuple(ranges)) for some in batch_plan.units(files, UNIT_MESSAGES)]
    parts = one_a_bar(one.parts for one in tasks.run(units, fold_minutes))
    return parts if places is None else only(GOLD_BARS_1M, parts, places)


class KeptParts:
    """Parts of a stream's newest bars, so that a minute's trades are not read again with each of its batches.

    Guarantee: the parts are used only if they are of the very version of Silver that is asked for. If they are not (a
    batch in between failed, or ended inside a version), they are dropped, and Silver is read.
    """

    def __init__(self) -> None:
        self._version: int | None = None
        self._parts = PARTS.empty_table()

    def after(self, settings: Settings, since: Since, version: int, places: RowKeys, tasks: Tasks) -> pa.Table:
        """Return one part for each bar in `places` at `version` of Silver, and keep the parts of the newest minutes.

        `since` holds all trades that came after `since.version`, up to `version`; its bars are among `places`.
        """
        if self._version != since.version:
            self._parts = PARTS.empty_table()
        asked = places_of(GOLD_BARS_1M, self._parts).among(places)
        known, others = (self._parts.filter(pa.array(which)) for which in (asked, ~asked))
        unknown = places.at(~places.among(places_of(GOLD_BARS_1M, known)))
        ranges = ranges_around(unknown.start, MINUTE, dt.timedelta(0))
        read = minute_parts(settings, since.version, ranges, tasks, unknown)
        # All three are of bars among the places, and each has at most one part of a bar.
        parts = joined([known, read, since.parts]) if known.num_rows or read.num_rows else since.parts
        self._parts = _newest(pa.concat_tables([others, parts]))
        self._version = version
        return parts


def _newest(parts: pa.Table) -> pa.Table:
    """Return the parts of the last KEPT_MINUTES minutes that there are."""
    starts = integers(parts.column("bar_start"))
    return parts.filter(pa.array(starts > starts.max() - KEPT_MINUTES * MINUTE_US)) if len(starts) else parts


def one_a_bar(some: Iterable[pa.Table]) -> pa.Table:
    """Join parts of bars to one for each bar."""
    parts: list[pa.Table] = [PARTS.empty_table()]
    rows = 0
    for part in some:
        parts.append(part)
        rows += part.num_rows
        if rows > _JOIN_ROWS:
            parts = [joined(parts)]
            rows = 0
    return joined(parts)
