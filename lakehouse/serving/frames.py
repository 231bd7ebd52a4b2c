"""Days of Gold in memory, as Arrow: each is read once and then searched without a query.

A day is identified by its files, so that a new version of the table reads only the days that it has changed. Bars of an
hour from memory cost 0.1 ms, a query of DataFusion 10 ms. The texts of all values are made when a day is read, because
for 60 bars alone they cost 1 ms of CPU. Rows that were once written as JSON are kept as JSON, which saves 0.4 ms.

Limit: the days that were used last, up to MOST_BYTES; days with more than MOST_DAY_ROWS rows are not kept.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from lakehouse.client.scan import Scan
from lakehouse.client.text import texts
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.serving.key_locks import KeyLocks
from lakehouse.serving.opened import Opened, WouldBlockError
from lakehouse.settings import Settings
from lakehouse.tables import Table
from lakehouse.transforms.arrow_numpy import integers

#: Bytes in memory, with the JSON that may come: some 14 days of nine markets' one-minute bars.
MOST_BYTES = 192 << 20
#: Rows of a day that is kept: the one-minute bars of 138 markets. A larger one would push out all others.
MOST_DAY_ROWS = 200_000
#: Rows that are written as JSON together, and the bytes of a bar's JSON.
JSON_ROWS, JSON_ROW_BYTES = 64, 600

#: First two columns of a table's key: venue and symbol, or base and quote.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Bounds:
    """Rows to select: those of a pair (None for any) whose last key is from `low` (inclusive) to `high` (exclusive).

    Times are in µs since the epoch. The selection begins after the row with the key `after`, if it is given.
    """

    first: str | None = None
    second: str | None = None
    low: int | None = None
    high: int | None = None
    after: tuple[str, str, int] | None = None

    def takes(self, pair: Pair) -> bool:
        """Return True if rows of a pair may be selected."""
        wanted = self.first in (None, pair[0]) and self.second in (None, pair[1])
        return wanted and (self.after is None or pair >= self.after[:2])


class Frame:
    """Rows of a table, sorted by its key of three columns, of which the last is an integer or a time."""

    def __init__(self, table: Table, rows: pa.Table) -> None:
        self.rows = rows.combine_chunks()
        self._texts: pa.Table = texts(self.rows).combine_chunks()
        self._json: dict[int, list[msgspec.Raw]] = {}
        self.pairs: dict[Pair, tuple[int, int]] = {}
        self._order = integers(self.rows.column(table.key[2])) if rows.num_rows else np.empty(0, np.int64)
        first, second = (self.rows.column(name).to_numpy() for name in table.key[:2])
        begins = [0, *(np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1])) + 1).tolist()]
        for begin, end in zip(begins, [*begins[1:], rows.num_rows], strict=True):
            if end > begin:
                self.pairs[str(first[begin]), str(second[begin])] = (begin, end)

    @property
    def nbytes(self) -> int:
        """Estimated bytes that it holds once all its rows are written as JSON."""
        return int(self.rows.nbytes + self._texts.nbytes) + JSON_ROW_BYTES * int(self.rows.num_rows)

    def slice(self, pair: Pair, bounds: Bounds) -> tuple[int, int]:
        """Return (begin, end) of the rows of a pair within bounds; `end` is exclusive."""
        begin, end = self.pairs.get(pair, (0, 0))
        order = self._order[begin:end]
        low = bounds.low
        if bounds.after is not None and pair == bounds.after[:2]:
            low = max(bounds.after[2] + 1, bounds.after[2] if low is None else low)
        first = 0 if low is None else int(np.searchsorted(order, low))
        last = len(order) if bounds.high is None else int(np.searchsorted(order, bounds.high))
        return begin + first, begin + max(first, last)

    def json(self, begin: int, end: int) -> list[msgspec.Raw]:
        """Return the rows from `begin` to `end` (exclusive) as JSON objects, with values as in `client.text.texts`."""
        first, last = begin // JSON_ROWS, -(-end // JSON_ROWS)
        rows = [row for number in range(first, last) for row in self._json_of(number)]
        return rows[begin - first * JSON_ROWS : end - first * JSON_ROWS]

    def _json_of(self, number: int) -> list[msgspec.Raw]:
        found = self._json.get(number)
        if found is None:
            part = self._texts.slice(number * JSON_ROWS, JSON_ROWS)
            found = self._json[number] = [msgspec.Raw(msgspec.json.encode(row)) for row in part.to_pylist()]
        return found


def select(frames: list[Frame], schema: pa.Schema, bounds: Bounds, limit: int | None) -> pa.Table:
    """Return the rows within bounds of frames that follow each other in time, ordered by their table's key.

    At most `limit` rows; None is no limit.
    """
    parts = [frame.rows.slice(begin, end - begin) for frame, begin, end in _slices(frames, bounds, limit)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def select_json(frames: list[Frame], bounds: Bounds, limit: int) -> list[msgspec.Raw]:
    """Return the rows that `select` returns, as JSON objects."""
    return [row for frame, begin, end in _slices(frames, bounds, limit) for row in frame.json(begin, end)]


def _slices(frames: list[Frame], bounds: Bounds, limit: int | None) -> Iterator[tuple[Frame, int, int]]:
    """Yield a frame, and the first row and the end of what is selected of it, for at most `limit` rows."""
    left = limit
    for frame, begin, end in _all_slices(frames, bounds):
        if left is not None:
            end = min(end, begin + left)
            left -= end - begin
        yield frame, begin, end
        if left == 0:
            return


def _all_slices(frames: list[Frame], bounds: Bounds) -> Iterator[tuple[Frame, int, int]]:
    if bounds.first is not None and bounds.second is not None:
        pairs: Iterable[Pair] = [(bounds.first, bounds.second)]
    else:
        pairs = sorted({pair for frame in frames for pair in frame.pairs})
    for pair in pairs:
        if bounds.takes(pair):
            for frame in frames:
                begin, end = frame.slice(pair, bounds)
                if end > begin:
                    yield frame, begin, end


class Frames:
    """The days in memory. Threads that want the same day wait for the thread that reads it."""

    def __init__(self, settings: Settings, most_bytes: int = MOST_BYTES) -> None:
        self._settings = settings
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, dt.date | None, str], Frame] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._reading = KeyLocks()

    @property
    def nbytes(self) -> int:
        """Bytes of all days that are kept."""
        return self._bytes

    def day(self, opened: Opened, day: dt.date | None, wait: bool = True) -> Frame:
        """Return the rows of a day of a table at a version; those of the whole table if the day is None.

        Raises WouldBlockError if they must be read and `wait` is False.
        """
        place = (opened.table.path, day, f"{opened.table_id}{opened.days[day].digest}")
        found = self._find(place)
        if found is not None:
            return found
        if not wait:
            raise WouldBlockError
        with self._reading.hold(place):
            found = self._find(place)
            if found is None:
                found = Frame(opened.table, _read(self._settings, opened, day))
                self._keep(place, found)
            return found

    def renew(self, before: Opened, after: Opened) -> None:
        """Read the days in memory for version `before` that differ in version `after`, so that no request waits for it.

        A day that cannot be read is left to the requests, which get the error.
        """
        for day, files in before.days.items():
            kept = (before.table.path, day, f"{before.table_id}{files.digest}") in self._kept
            if kept and after.days.get(day, files) != files and after.days[day].rows <= MOST_DAY_ROWS:
                with contextlib.suppress(*READ_ERRORS):
                    self.day(after, day)

    def _find(self, place: tuple[str, dt.date | None, str]) -> Frame | None:
        with self._lock:
            found = self._kept.get(place)
            if found is not None:
                self._kept.move_to_end(place)
            return found

    def _keep(self, place: tuple[str, dt.date | None, str], frame: Frame) -> None:
        with self._lock:
            older = [one for one in self._kept if one[:2] == place[:2]]
            for one in older[:-1]:  # the one before may still be read, for a page of it
                self._bytes -= self._kept.pop(one).nbytes
            self._kept[place] = frame
            self._bytes += frame.nbytes
            while self._bytes > self._most_bytes and self._kept:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _read(settings: Settings, opened: Opened, day: dt.date | None) -> pa.Table:
    filters = () if day is None else ((opened.table.partition_by[0], "=", day),)
    scan = Scan(
        settings,
        opened.table,
        opened.version,
        filters,
        order=opened.table.key,
        open_at=lambda _table, _version: opened.delta,
    )
    return scan.arrow()
