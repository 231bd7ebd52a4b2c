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

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.streams.gold_bars import MINUTE, KeptParts, Since, minute_parts, ranges_around
from lakehouse.streams.gold_complete import MINUTE_US, Bar, Completeness
from lakehouse.streams.gold_final import Finality
from lakehouse.streams.gold_rows import Place, RowChanges, only, places_of, rows_in, sync
from lakehouse.tables import (
    GOLD_BARS_1M,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    LOOKBACK_MINUTES,
    Table,
)
from lakehouse.transforms.bars import finished
from lakehouse.transforms.indicators import affected, indicators
from lakehouse.transforms.longer import longer_bars
from lakehouse.transforms.moves import moves
from lakehouse.transforms.spreads import spreads
from lakehouse.transforms.time_ranges import TimeRange

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

    def minutes(self, places: Collection[Place], due: Collection[Bar] = (), since: Since | None = None) -> None:
        """The bars of some minutes, those that have become complete, and what depends on them."""
        wanted = {*places, *((*bar.key, bar.start) for bar in due if bar.minutes == 1)}
        if wanted:
            ranges = ranges_around([start for _, _, start in wanted], MINUTE, dt.timedelta(0))
            there = only(GOLD_BARS_1M, rows_in(self.settings, GOLD_BARS_1M, ranges), wanted)
            self._bars_1m(there, ranges, wanted, since)
        self._longer(wanted, due)
        self._dependants(wanted)

    def slice(self, time: TimeRange) -> None:
        """All of a time: what Silver does not have is deleted. Its ends are those of bars of every size, or a day's."""
        there = rows_in(self.settings, GOLD_BARS_1M, [time])
        wanted = set(places_of(GOLD_BARS_1M, there)) | self._bars_1m(there, [time], None)
        self._longer(wanted, (), time)
        self._dependants(wanted, time)

    def _bars_1m(
        self,
        there: pa.Table,
        ranges: Sequence[TimeRange],
        places: Collection[Place] | None,
        since: Since | None = None,
    ) -> set[Place]:
        version = int(self.of_silver.version)
        if since is None or places is None:
            parts = minute_parts(self.settings, version, ranges, places)
        else:
            parts = self.kept.after(self.settings, since, version, places)
        bars = finished(parts)
        self._sync(GOLD_BARS_1M, there, self._flagged(bars, 1))
        return set(places_of(GOLD_BARS_1M, bars))

    def _longer(self, touched: Collection[Place], due: Collection[Bar], time: TimeRange | None = None) -> None:
        """Each size from the longest smaller one that divides it: the same fold, so it equals that of the trades."""
        sizes = lake.bar_tables(self.settings)
        for number, (table, minutes) in enumerate(sizes[1:], start=1):
            length = minutes * MINUTE_US
            windows = {(venue, symbol, start - start % length) for venue, symbol, start in touched}
            windows |= {(*bar.key, bar.start) for bar in due if bar.minutes == minutes}
            if time is not None:  # a bar without a minute in the slice may have some behind it: its own minutes tell
                windows |= set(places_of(table, rows_in(self.settings, table, [time], table.key)))
            if not windows:
                continue
            ranges = ranges_around([start for _, _, start in windows], MINUTE * minutes, dt.timedelta(0))
            there = only(table, rows_in(self.settings, table, ranges), windows)
            shorter = next(one for one, shorter in reversed(sizes[:number]) if minutes % shorter == 0)
            parts = rows_in(self.settings, shorter, ranges)
            held = [(v, s, at - at % length) in windows for v, s, at in places_of(shorter, parts)]
            bars = longer_bars(parts.filter(pa.array(held, pa.bool_())), minutes)
            self._sync(table, there, self._flagged(bars, minutes))

    def _dependants(self, touched: Collection[Place], time: TimeRange | None = None) -> None:
        """Indicators, moves and spreads of the touched minutes, and the indicators that look back on them."""
        starts = [start for _, _, start in touched]
        near = ranges_around(starts, MINUTE, LOOKBACK)
        at = ranges_around(starts, MINUTE, dt.timedelta(0)) if time is None else [time]
        if not near and time is None:
            return
        bars = rows_in(self.settings, GOLD_BARS_1M, near, _OF_MINUTES)
        here = only(GOLD_BARS_1M, bars, touched)
        self._indicators(bars, touched, near, time)

        there = rows_in(self.settings, GOLD_MOVES, at)
        there = there if time else only(GOLD_MOVES, there, touched)
        self._sync(GOLD_MOVES, there, moves(here, self.settings.move_threshold))

        pairs = {_pair(symbol, start) for _, symbol, start in touched}
        same = [_pair(symbol, start) in pairs for _, symbol, start in places_of(GOLD_BARS_1M, bars)]
        there = rows_in(self.settings, GOLD_SPREADS_1M, at)
        there = there if time else only(GOLD_SPREADS_1M, there, pairs)
        self._sync(GOLD_SPREADS_1M, there, spreads(bars.filter(pa.array(same, pa.bool_()))))

    def _indicators(
        self, bars: pa.Table, touched: Collection[Place], near: Sequence[TimeRange], time: TimeRange | None
    ) -> None:
        """Of a minute that has no bar any more the row goes, and those behind it are of other bars."""
        wanted = affected(bars, touched)
        ours = {*wanted, *touched}
        there = rows_in(self.settings, GOLD_INDICATORS_1M, near)
        there = only(GOLD_INDICATORS_1M, there, ours)
        if time is not None:
            more = rows_in(self.settings, GOLD_INDICATORS_1M, [time])
            alone = [place not in ours for place in places_of(GOLD_INDICATORS_1M, more)]
            there = pa.concat_tables([there, more.filter(pa.array(alone, pa.bool_()))])
        self._sync(GOLD_INDICATORS_1M, there, indicators(bars, wanted))

    def _flagged(self, bars: pa.Table, minutes: int) -> pa.Table:
        return self.finality.with_flags(self.completeness.with_flags(bars, minutes), minutes)

    def _sync(self, table: Table, there: pa.Table, computed: pa.Table) -> None:
        changes = sync(self.settings, table, there, computed, self.of_silver)
        self.changes[table.path] = self.changes.get(table.path, RowChanges()).plus(changes)


def _pair(symbol: str, start: int) -> Place:
    base, _, quote = symbol.partition("/")
    return base, quote, start
