"""The writer of Gold at a version of Silver: the bars of some minutes, and the rows that depend on them, no others.

The stream and a rebuild both use it. Order: one-minute bars from Silver; longer bars; then every other table of the
registry (`transforms.derived.GOLD`), in its order, from its source as Gold has it by then. Each table is one commit.
Guarantee: the rows that depend on a minute are computed whether or not the minute's bar changed, so that a batch which
was cut between two tables and runs again ends in the same rows as one that was not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from deltalake import Transaction

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.gold_bars import MINUTE, KeptParts, Since, minute_parts
from lakehouse.streams.gold_complete import MINUTE_US, Bar, Completeness
from lakehouse.streams.gold_final import Finality
from lakehouse.streams.gold_rows import MAINTAINED, RowChanges, only, places_of, rows_in, sync
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import BARS, GOLD_BARS_1M, LOOKBACK_MINUTES, Table
from lakehouse.transforms.arrow_numpy import Mask, kept
from lakehouse.transforms.bars import SHORTER_COLUMNS, finished, roll_up
from lakehouse.transforms.derived import GOLD
from lakehouse.transforms.row_keys import RowKeys, is_in
from lakehouse.transforms.time_ranges import TimeRange, ranges_around

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NONE = dt.timedelta(0)
LOOKBACK = dt.timedelta(minutes=LOOKBACK_MINUTES)

#: The tables that are computed from bars, directly or not, in the order in which they are written.
DEPENDANTS = tuple(one for one in GOLD if one.table not in BARS.values())

#: Slack on both sides of scattered rows: those that lie less than twice this apart are read as one range.
_JOINED = dt.timedelta(hours=1)

#: Path of a table of bars → their length in minutes.
_LENGTHS = {table.path: minutes for minutes, table in BARS.items()}


@dataclass
class GoldWriter:
    """One writing of Gold. `of_silver` is the version of Silver, with Gold's application id.

    `tasks` say where trades are read. `kept` are the parts of bars that the stream's previous writing has left.
    `changes` has the numbers of changed rows by table path.
    """

    settings: Settings
    completeness: Completeness
    finality: Finality
    of_silver: Transaction
    tasks: Tasks
    kept: KeptParts = field(default_factory=KeptParts)
    changes: dict[str, RowChanges] = field(default_factory=dict)

    def minutes(self, touched: RowKeys, due: Collection[Bar] = (), since: Since | None = None) -> None:
        """Write the bars of the touched minutes, the bars `due` that have become complete, and what depends on them.

        `since` has all trades that Silver has got since the previous batch, None if they are not known. If they are, a
        bar without a new trade that has become complete or final changes only its flags: it is not computed again, and
        nothing depends on it.
        """
        if since is None:
            touched = touched.plus(_places_of_due(due, 1)).once()
        alike = self._alike(touched, due, 1, since)
        wanted = touched.plus(alike)
        if len(wanted):
            ranges = ranges_around(wanted.start, MINUTE, _NONE)
            there = only(GOLD_BARS_1M, rows_in(self.settings, GOLD_BARS_1M, ranges), wanted)
            same = only(GOLD_BARS_1M, there, alike)
            lost = alike.at(~alike.among(places_of(GOLD_BARS_1M, same)))  # somebody has deleted these rows
            self._bars_1m(there, ranges, touched.plus(lost), since, same)
        self._longer(touched, due, since)
        self._dependants(touched)

    def _alike(self, touched: RowKeys, due: Collection[Bar], minutes: int, since: Since | None) -> RowKeys:
        """Return the bars of a length of which only the flags may differ; they are written with the touched ones."""
        found = _places_of_due(due, minutes)
        if since is not None:
            found = found.plus(self.finality.passed(minutes)).once()
        return found.at(~found.among(touched))

    def slice(self, time: TimeRange) -> None:
        """Write all rows of a range of time anew; rows for which Silver has no trades are deleted.

        The range must begin and end where bars of every size do, or be a day.
        """
        there = rows_in(self.settings, GOLD_BARS_1M, [time])
        made = self._bars_1m(there, [time], None)
        wanted = places_of(GOLD_BARS_1M, there).plus(made).once()
        self._longer(wanted, time=time)
        self._dependants(wanted, time)

    def _bars_1m(
        self,
        there: pa.Table,
        ranges: Sequence[TimeRange],
        places: RowKeys | None,
        since: Since | None = None,
        same: pa.Table | None = None,
    ) -> RowKeys:
        """Write one-minute bars from Silver, and with them `same`, of which only the flags may differ.

        `there` are the table's present rows, which they replace; without `places` all bars of `ranges` are made.
        Returns the places of the bars.
        """
        version = int(self.of_silver.version)
        if since is None or places is None:
            parts = minute_parts(self.settings, version, ranges, self.tasks, places)
        else:
            parts = self.kept.after(self.settings, since, version, places, self.tasks)
        bars = _with(finished(parts), same)
        self._sync(GOLD_BARS_1M, there, self._flagged(bars, 1))
        return places_of(GOLD_BARS_1M, bars)

    def _longer(
        self, touched: RowKeys, due: Collection[Bar] = (), since: Since | None = None, time: TimeRange | None = None
    ) -> None:
        """Write longer bars, each size from the longest smaller one that divides it.

        The bars equal those that would be folded from the trades. `time` is a slice of which all rows are made anew.
        """
        sizes = table_io.bar_tables(self.settings)
        for number, (table, minutes) in enumerate(sizes[1:], start=1):
            windows = _windows(touched, minutes).once()
            if time is not None:  # bars that exist and may have no minute left
                windows = windows.plus(places_of(table, rows_in(self.settings, table, [time], table.key))).once()
            alike = self._alike(windows, due, minutes, since)
            wanted = windows.plus(alike)
            if not len(wanted):
                continue
            length, shorter = MINUTE * minutes, _shorter(sizes[:number], minutes)
            there = only(table, rows_in(self.settings, table, ranges_around(wanted.start, length, _NONE)), wanted)
            same = only(table, there, alike)
            windows = windows.plus(alike.at(~alike.among(places_of(table, same))))
            parts = rows_in(self.settings, shorter, ranges_around(windows.start, length, _NONE), SHORTER_COLUMNS)
            held = _windows(places_of(shorter, parts), minutes).among(windows)
            bars = _with(roll_up(kept(parts, held), minutes), same)
            self._sync(table, there, self._flagged(bars, minutes))

    def _dependants(self, touched: RowKeys, time: TimeRange | None = None) -> None:
        """Write every table that is computed from bars, in the registry's order.

        `time` is a slice of which all rows are made anew.
        """
        if not len(touched) and time is None:
            return
        sources: dict[str, pa.Table] = {}
        for one in DEPENDANTS:
            if one.source.path not in sources:
                sources[one.source.path] = self._source(one.source, touched)
            rows = sources[one.source.path]
            wanted = one.affected(rows, touched)
            there = rows_in(self.settings, one.table, _around(wanted, touched, time))
            places = places_of(one.table, there)
            there = kept(there, places.among(wanted) | _inside(places, time))
            self._sync(one.table, there, one.compute(self.settings, rows, wanted))

    def _source(self, source: Table, touched: RowKeys) -> pa.Table:
        """Return the rows of a source from which the touched minutes' dependants are computed: LOOKBACK around each."""
        starts = _windows(touched, _LENGTHS.get(source.path, 1)).start
        return rows_in(self.settings, source, ranges_around(starts, MINUTE, LOOKBACK), _columns_read(source))

    def _flagged(self, bars: pa.Table, minutes: int) -> pa.Table:
        return self.finality.with_flags(self.completeness.with_flags(bars, minutes), minutes)

    def _sync(self, table: Table, there: pa.Table, computed: pa.Table) -> None:
        changes = sync(self.settings, table, there, computed, self.of_silver)
        self.changes[table.path] = self.changes.get(table.path, RowChanges()).plus(changes)


def _columns_read(source: Table) -> tuple[str, ...]:
    """Return the columns of a source that are read: its key, and those from which its dependants compute."""
    read = set(source.key)
    for one in DEPENDANTS:
        if one.source.path == source.path:
            read.update(*(origins.split() for name, origins in one.columns.items() if name not in MAINTAINED))
    return tuple(name for name in source.column_names if name in read)


def _around(wanted: RowKeys, touched: RowKeys, time: TimeRange | None) -> list[TimeRange]:
    """Return ranges with all wanted rows and the slice `time`; few, if rows lie outside the touched minutes."""
    scattered = not is_in(wanted.start, touched.start).all()
    ranges = ranges_around(wanted.start, MINUTE, _JOINED if scattered else _NONE)
    if time is None:
        return ranges
    return [time, *(one for one in ranges if one.start < time.start or one.end > time.end)]


def _inside(places: RowKeys, time: TimeRange | None) -> Mask:
    """Return a mask of the places in the slice `time`; none are, without one."""
    if time is None:
        return np.zeros(len(places), np.bool_)
    start, end = ((at - _EPOCH) // _MICROSECOND for at in (time.start, time.end))
    found: Mask = (places.start >= start) & (places.start < end)
    return found


def _places_of_due(due: Collection[Bar], minutes: int) -> RowKeys:
    """Return the places of those bars in `due` whose length is `minutes`."""
    return RowKeys.of_tuples((*bar.key, bar.start) for bar in due if bar.minutes == minutes)


def _windows(places: RowKeys, minutes: int) -> RowKeys:
    """Return for each place the bar of `minutes` minutes in which it lies."""
    return places.starting(places.start - places.start % (minutes * MINUTE_US))


def _shorter(sizes: Sequence[tuple[Table, int]], minutes: int) -> Table:
    """Return the longest of some shorter sizes that divides `minutes`: the longer bars are folded from it."""
    return next(table for table, shorter in reversed(sizes) if minutes % shorter == 0)


def _with(bars: pa.Table, same: pa.Table | None) -> pa.Table:
    """Return bars followed by the rows `same`, which keep only the columns that `bars` has."""
    if same is None or not same.num_rows:
        return bars
    return pa.concat_tables([bars, same.select(bars.column_names).cast(bars.schema)])
