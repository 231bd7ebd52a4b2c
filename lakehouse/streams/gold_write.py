"""Writes Gold at a version of Silver: the bars of some minutes, and all that depends on them and nothing else.

One way for the stream and for a rebuild. Order: one-minute bars from Silver; longer bars, indicators, moves and spreads
from the one-minute bars as they then stand in Gold. Each table is one commit.
Guarantee: what depends on a minute is computed whether or not the minute's bar changed, so that a batch which was cut
between two tables and runs again ends in the same rows as one that was not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from deltalake import Transaction

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.gold_bars import MINUTE, KeptParts, Since, minute_parts
from lakehouse.streams.gold_complete import MINUTE_US, Bar, Completeness
from lakehouse.streams.gold_final import Finality
from lakehouse.streams.gold_rows import RowChanges, only, places_of, rows_in, sync
from lakehouse.tables import (
    GOLD_BARS_1M,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    LOOKBACK_MINUTES,
    Table,
)
from lakehouse.transforms.arrow_numpy import kept
from lakehouse.transforms.bars import SHORTER_COLUMNS, finished, roll_up
from lakehouse.transforms.indicators import affected, indicators
from lakehouse.transforms.moves import moves
from lakehouse.transforms.row_keys import RowKeys
from lakehouse.transforms.spreads import pairs_of, spreads
from lakehouse.transforms.time_ranges import TimeRange, ranges_around

_NONE = dt.timedelta(0)
LOOKBACK = dt.timedelta(minutes=LOOKBACK_MINUTES)

#: What indicators, moves and spreads need of a one-minute bar.
_OF_MINUTES = ("venue", "symbol", "bar_start", "open", "close", "volume", "quote_volume", "trades")


@dataclass
class GoldWriter:
    """One writing of Gold. `of_silver` is the version of Silver, under Gold's application id of it.

    `kept` is what the writing before it, of a stream, has left.
    """

    settings: Settings
    completeness: Completeness
    finality: Finality
    of_silver: Transaction
    kept: KeptParts = field(default_factory=KeptParts)
    changes: dict[str, RowChanges] = field(default_factory=dict)

    def minutes(self, touched: RowKeys, due: Collection[Bar] = (), since: Since | None = None) -> None:
        """The bars of some minutes, those that have become complete, and what depends on them.

        Where all that Silver has got is known (`since`), a bar without a trade of its own that has become complete, or
        final, is the same bar but for that: it is not made anew, and nothing depends on it.
        """
        if since is None:
            touched = touched.plus(_places_of_due(due, 1)).once()
        alike = self._alike(touched, due, 1, since)
        wanted = touched.plus(alike)
        if len(wanted):
            ranges = ranges_around(wanted.start, MINUTE, _NONE)
            there = only(GOLD_BARS_1M, rows_in(self.settings, GOLD_BARS_1M, ranges), wanted)
            same = only(GOLD_BARS_1M, there, alike)
            lost = alike.at(~alike.among(places_of(GOLD_BARS_1M, same)))  # by whoever deleted rows
            self._bars_1m(there, ranges, touched.plus(lost), since, same)
        self._longer(touched, due, since)
        self._dependants(touched)

    def _alike(self, touched: RowKeys, due: Collection[Bar], minutes: int, since: Since | None) -> RowKeys:
        """Bars of a length of which only the flags may differ: in one commit with the others."""
        found = _places_of_due(due, minutes)
        if since is not None:
            found = found.plus(self.finality.passed(minutes)).once()
        return found.at(~found.among(touched))

    def slice(self, time: TimeRange) -> None:
        """All of a time: what Silver does not have is deleted. Its ends are those of bars of every size, or a day's."""
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
        """One-minute bars of Silver, and with them those of which only the flags may differ (`same`)."""
        version = int(self.of_silver.version)
        if since is None or places is None:
            parts = minute_parts(self.settings, version, ranges, places)
        else:
            parts = self.kept.after(self.settings, since, version, places)
        bars = _with(finished(parts), same)
        self._sync(GOLD_BARS_1M, there, self._flagged(bars, 1))
        return places_of(GOLD_BARS_1M, bars)

    def _longer(
        self, touched: RowKeys, due: Collection[Bar] = (), since: Since | None = None, time: TimeRange | None = None
    ) -> None:
        """Each size from the longest smaller one that divides it: the same fold, so it equals that of the trades."""
        sizes = table_io.bar_tables(self.settings)
        for number, (table, minutes) in enumerate(sizes[1:], start=1):
            windows = _windows(touched, minutes).once()
            if time is not None:  # a bar without a minute in the slice may have some behind it: its own minutes tell
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
        """Indicators, moves and spreads of the touched minutes, and the indicators that look back on them."""
        near = ranges_around(touched.start, MINUTE, LOOKBACK)
        at = ranges_around(touched.start, MINUTE, _NONE) if time is None else [time]
        if not near and time is None:
            return
        bars = rows_in(self.settings, GOLD_BARS_1M, near, _OF_MINUTES)
        places = places_of(GOLD_BARS_1M, bars)
        self._indicators(bars, touched, near, time)

        here = kept(bars, places.among(touched))
        there = rows_in(self.settings, GOLD_MOVES, at)
        there = there if time else only(GOLD_MOVES, there, touched)
        self._sync(GOLD_MOVES, there, moves(here, self.settings.move_threshold))

        pairs = pairs_of(touched)
        there = rows_in(self.settings, GOLD_SPREADS_1M, at)
        there = there if time else only(GOLD_SPREADS_1M, there, pairs)
        same = kept(bars, pairs_of(places).among(pairs))
        self._sync(GOLD_SPREADS_1M, there, spreads(same))

    def _indicators(self, bars: pa.Table, touched: RowKeys, near: Sequence[TimeRange], time: TimeRange | None) -> None:
        """Of a minute that has no bar any more the row goes, and those behind it are of other bars."""
        wanted = affected(bars, touched)
        ours = wanted.plus(touched)
        there = rows_in(self.settings, GOLD_INDICATORS_1M, near)
        there = only(GOLD_INDICATORS_1M, there, ours)
        if time is not None:
            more = rows_in(self.settings, GOLD_INDICATORS_1M, [time])
            alone = ~places_of(GOLD_INDICATORS_1M, more).among(ours)
            there = pa.concat_tables([there, more.filter(pa.array(alone))])
        self._sync(GOLD_INDICATORS_1M, there, indicators(bars, wanted))

    def _flagged(self, bars: pa.Table, minutes: int) -> pa.Table:
        return self.finality.with_flags(self.completeness.with_flags(bars, minutes), minutes)

    def _sync(self, table: Table, there: pa.Table, computed: pa.Table) -> None:
        changes = sync(self.settings, table, there, computed, self.of_silver)
        self.changes[table.path] = self.changes.get(table.path, RowChanges()).plus(changes)


def _places_of_due(due: Collection[Bar], minutes: int) -> RowKeys:
    """Bars of a length that have become complete."""
    return RowKeys.of_tuples((*bar.key, bar.start) for bar in due if bar.minutes == minutes)


def _windows(places: RowKeys, minutes: int) -> RowKeys:
    """For each place the longer bar that it lies in."""
    return places.starting(places.start - places.start % (minutes * MINUTE_US))


def _shorter(sizes: Sequence[tuple[Table, int]], minutes: int) -> Table:
    """The bars that those of a length are folded from."""
    return next(table for table, shorter in reversed(sizes) if minutes % shorter == 0)


def _with(bars: pa.Table, same: pa.Table | None) -> pa.Table:
    """Bars and, in front of the flags, those that are as they were."""
    if same is None or not same.num_rows:
        return bars
    return pa.concat_tables([bars, same.select(bars.column_names).cast(bars.schema)])
