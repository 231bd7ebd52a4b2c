"""Completeness of bars, proved by trade ids, at a cost that grows with the batch and not with the history. No Spark.

Guarantee: a bar is flagged if and only if silver/trades, at the version that the batch reads, holds every id from the
one before the bar's lowest to the one after its highest. A trade that completes a bar of another window, hours away,
names that window, so that its bars are recomputed and written with the batch's own.
How: ids are only ever added to Silver. So a bar's flag can change without a trade of its own only from incomplete to
complete, and only when the lowest id that it lacks comes. Each incomplete bar waits for that one id.
Gap: a flag in the table that says complete and is wrong is not found here but by the check `complete_proved`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lakehouse.continuity.known_ids import KnownIds, ranges_between
from lakehouse.id_ranges import IdRange
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.transforms.arrow_numpy import Integers, Mask, integers
from lakehouse.transforms.bars import BAR_KEY
from lakehouse.transforms.row_keys import RowKeys

MINUTE_US = 60_000_000


class Bar(NamedTuple):
    """A bar's place: (venue, symbol), length in minutes, start in microseconds since the epoch."""

    key: MarketKey
    minutes: int
    start: int


class IdGroup(NamedTuple):
    """The number of distinct ids in a group of one (venue, symbol), and the lowest and the highest of them."""

    lowest: int
    highest: int
    ids: int


def ranges_of(groups: Iterable[IdGroup]) -> list[IdRange] | None:
    """Return the contiguous ranges that groups of ids form, or None if the counts alone cannot tell.

    No id may be in two groups. The spans of groups may overlap, if together they leave no id out.
    """
    ranges: list[IdRange] = []
    count = 0
    for group in sorted(groups):
        if ranges and group.lowest <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], group.highest)
            count += group.ids
            continue
        if ranges and count != ranges[-1][1] - ranges[-1][0] + 1:
            return None
        ranges.append((group.lowest, group.highest))
        count = group.ids
    if ranges and count != ranges[-1][1] - ranges[-1][0] + 1:
        return None
    return ranges


class Waiting:
    """The incomplete bars, each under the lowest id that it lacks. An operation costs a binary search."""

    def __init__(self) -> None:
        self._queues: dict[MarketKey, list[tuple[int, Bar]]] = {}
        self._spans: dict[Bar, tuple[int, IdRange]] = {}

    def put(self, bar: Bar, lacking: int, span: IdRange) -> None:
        """Let a bar, whose ids span `span`, wait for the id `lacking` only."""
        self.drop(bar)
        insort(self._queues.setdefault(bar.key, []), (lacking, bar))
        self._spans[bar] = lacking, span

    def drop(self, bar: Bar) -> None:
        """Forget a bar, if it waits."""
        found = self._spans.pop(bar, None)
        if found is not None:
            queue = self._queues[bar.key]
            del queue[bisect_left(queue, (found[0], bar))]

    def take(self, key: MarketKey, first: int, last: int) -> list[tuple[Bar, IdRange]]:
        """Take out the bars, with their spans, that wait for an id from `first` to `last`."""
        queue = self._queues.get(key, [])
        low = bisect_left(queue, first, key=lambda entry: entry[0])
        high = bisect_right(queue, last, key=lambda entry: entry[0])
        bars = [bar for _, bar in queue[low:high]]
        del queue[low:high]
        return [(bar, self._spans.pop(bar)[1]) for bar in bars]

    def __len__(self) -> int:
        return len(self._spans)


class Completeness:
    """The ids of silver/trades at one version and the bars that lack ids; tells which bars new ids complete."""

    def __init__(self, presence: KnownIds, version: int) -> None:
        """Begin without bars. `presence` has the ids of silver/trades at `version` (-1: none), and will be changed."""
        self._presence = presence
        self._waiting = Waiting()
        self._due: set[Bar] = set()
        self.version = version

    @classmethod
    def at(cls, settings: Settings, version: int) -> Completeness:
        """Read the ids of Silver at a version that Gold has processed, and the incomplete bars of Gold's tables.

        Bars that are proved and not yet flagged so are due. A batch that was cut may have written incomplete bars which
        this version cannot prove; they wait like the others.
        """
        found = cls(KnownIds.at(settings, version), version)
        for table, minutes in table_io.bar_tables(settings):
            bars = table_io.sql(
                settings,
                "SELECT venue, symbol, bar_start, first_trade_id, last_trade_id FROM bars WHERE NOT complete",
                bars=table,
            )
            for bar, span in bars_and_spans(bars, minutes):
                if found.judge(bar, span):
                    found._due.add(bar)
        return found

    def add(self, ids: Mapping[MarketKey, Sequence[IdRange]], version: int) -> None:
        """Add ids, after which all ids of `version` are there; bars that they complete become due."""
        for key, ranges in ids.items():
            present = self._presence.of(key)
            for first, last in ranges:
                present.add(first, last)
            woken = [entry for first, last in ranges for entry in self._waiting.take(key, first, last)]
            self._due |= {bar for bar, span in woken if self.judge(bar, span)}
        self.version = max(self.version, version)

    def read_up_to(self, settings: Settings, version: int) -> None:
        """Add the ids that Silver has got after `self.version`, up to `version`, read from its tables."""
        if version <= self.version:
            return
        ids: dict[MarketKey, list[IdRange]] = {}
        if self.version < 0:
            ids = {key: list(ranges) for key, ranges in KnownIds.at(settings, version).items()}
        else:
            for island in ranges_between(settings, self.version, version)[0]:
                ids.setdefault(island.key, []).append((island.first_id, island.last_id))
        self.add(ids, version)

    def judge(self, bar: Bar, span: IdRange) -> bool:
        """Return True if a bar with ids from span[0] to span[1] is complete; if it is not, let it wait."""
        first, last = span[0] - 1, span[1] + 1
        if self._presence.covers(bar.key, first, last):
            return True
        lacking = self._presence.of(bar.key).missing(first, last)[0][0]
        self._waiting.put(bar, lacking, span)
        return False

    def take_due(self) -> set[Bar]:
        """Return the bars that have become complete and are not yet written so, and forget them."""
        due, self._due = self._due, set()
        return due

    def with_flags(self, bars: pa.Table, minutes: int) -> pa.Table:
        """Return bars, of a length in minutes, with the column `complete`; let the incomplete ones wait."""
        places = RowKeys.of(bars, BAR_KEY)
        first, last = integers(bars.column("first_trade_id")) - 1, integers(bars.column("last_trade_id")) + 1
        complete, lacking = self._looked_up(places, first, last)
        left = np.flatnonzero(~complete)
        waiting = zip(bars_and_spans(bars.take(left), minutes), lacking[left].tolist(), strict=True)
        for (bar, span), number in waiting:
            self._waiting.put(bar, number, span)
        return bars.append_column("complete", pa.array(complete))

    def _looked_up(self, places: RowKeys, first: Integers, last: Integers) -> tuple[Mask, Integers]:
        """Return for each place if its symbol has every id from `first` to `last`, and the lowest id that it lacks.

        The ids are looked up once for each symbol; for each bar only whole numbers are compared. If no id is missing,
        the second number is above `last`.
        """
        if not len(places):
            return np.zeros(0, np.bool_), first
        keys, key = places.pairs()
        low, high = np.full(len(keys), np.iinfo(np.int64).max), np.full(len(keys), np.iinfo(np.int64).min)
        np.minimum.at(low, key, first)
        np.maximum.at(high, key, last)
        ranges = [
            self._presence.of(one).around(*bounds)
            for one, *bounds in zip(keys, low.tolist(), high.tolist(), strict=True)
        ]
        counts = np.array([len(one) for one in ranges])
        whole = np.array([pair for one in ranges for pair in one], np.int64).reshape(-1, 2)
        # Find by bisection the first range of the bar's symbol that ends at `first` or after it.
        begin = np.cumsum(counts) - counts
        at, end = begin[key], (begin + counts)[key]
        beyond = end
        while (open_ := at < end).any():
            middle = (at + end) // 2
            ends_before = open_ & (whole[np.where(open_, middle, 0), 1] < first)
            at, end = np.where(ends_before, middle + 1, at), np.where(open_ & ~ends_before, middle, end)
        there = at < beyond
        there[there] = whole[at[there], 0] <= first[there]  # true if `first` itself is there
        lacking = first.copy()
        lacking[there] = whole[at[there], 1] + 1
        return lacking > last, lacking


def bars_and_spans(bars: pa.Table, minutes: int) -> Iterable[tuple[Bar, IdRange]]:
    """Yield each row's place, and its lowest and highest trade id."""
    starts = bars.column("bar_start").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    names = ("venue", "symbol", "first_trade_id", "last_trade_id")
    columns = [bars.column(name).to_pylist() for name in names]
    for venue, symbol, first, last, start in zip(*columns, starts.to_pylist(), strict=True):
        yield Bar((venue, symbol), minutes, start), (first, last)
