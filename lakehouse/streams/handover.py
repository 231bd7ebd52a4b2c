"""Handover of newly written rows to the next layer of this process; its first work on them starts during the write.

A layer registers its first work on rows of a table (`expect`). The writer of that table also puts its rows here, and
the work is done a chunk at a time (`put`, `written`). The layer's batch takes the results (`take`).
Guarantee: `take` returns the results of all rows of a file, in order, or None; the layer then reads the file. Each
file's results are taken once. Memory is bounded: the oldest files are dropped first, and the newest too if it alone is
too large.
Gap: this module does not know whether a file was committed. Nobody asks for an uncommitted one: no log names it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import pyarrow as pa

from lakehouse.streams.side_by_side import POOL

#: Most bytes of all rows and results that wait: a second of the fastest catch-up's raw messages.
MOST_BYTES = 256 * 1024 * 1024

#: Most rows of a chunk, however large the file: a few MB of trades, some 30 MB of raw messages.
CHUNK_ROWS = 65_536

#: URI of a table, and the path of one of its files below it.
Place = tuple[str, str]

#: Result of the work on a chunk: one or more tables.
Made = tuple[pa.Table, ...]
Work = Callable[[pa.Table], Made]


class _File:
    """A file's rows that are in no chunk yet, and the results, done or to come, of its chunks."""

    def __init__(self) -> None:
        self.waiting: list[pa.Table] = []
        self.rows = 0
        self.made: list[Future[Made]] = []
        self.bytes = 0

    def next(self, most: int) -> pa.Table:
        """Take the next chunk out of the waiting rows: `most` of them, or all if there are fewer."""
        there = pa.concat_tables(self.waiting)
        chunk = there.slice(0, most)
        self.waiting, self.rows = ([there.slice(most)], self.rows - most) if self.rows > most else ([], 0)
        return chunk


class Handover:
    """Results of work on rows that this process writes, by table and file, until the next layer takes them.

    Safe to use from several threads.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, chunk_rows: int = CHUNK_ROWS) -> None:
        self._most, self._chunk_rows = most_bytes, chunk_rows
        self._expected: dict[str, tuple[pa.Schema, Work]] = {}
        self._files: OrderedDict[Place, _File] = OrderedDict()
        self._given_up: set[Place] = set()  #: dropped files, of which more rows may come, until somebody takes them
        self._bytes = 0
        self._guard = threading.Lock()

    def expect(self, table: str, columns: pa.Schema, work: Work) -> None:
        """Begin to apply `work` to the rows that are written to the table at a URI, with these columns and types."""
        with self._guard:
            self._expected[table] = columns, work

    def dismiss(self, table: str) -> None:
        """End what `expect` began for a table: drop its rows and results, and ignore the rows that still come."""
        with self._guard:
            self._expected.pop(table, None)
            self._given_up = {place for place in self._given_up if place[0] != table}
            for place in [place for place in self._files if place[0] == table]:
                self._drop(place)

    def put(self, table: str, path: str, rows: pa.Table) -> None:
        """Hand over further rows of a file, in their order. All rows of a file must be put."""
        with self._guard:
            if table not in self._expected or (table, path) in self._given_up:
                return
            columns, _ = self._expected[table]
            file = self._files.setdefault((table, path), _File())
            file.waiting.append(rows.select(columns.names))
            file.rows += rows.num_rows
            self._count(file, file.waiting[-1].nbytes)
            while file.rows >= self._chunk_rows:
                self._begin((table, path), file)
            self._stay_within()

    def written(self, table: str, path: str) -> None:
        """Take note that all rows of a file have been put, and begin the work on the last of them."""
        with self._guard:
            file = self._files.get((table, path))
            if file is not None and file.rows:
                self._begin((table, path), file)

    def take(self, table: str, path: str) -> list[Future[Made]] | None:
        """Return the results for a file's rows, one for each chunk, in order; None if they are not here."""
        with self._guard:
            self._given_up.discard((table, path))
            file = self._files.get((table, path))
            if file is None:
                return None
            if file.rows:
                self._begin((table, path), file)
            self._forget((table, path))
            return file.made

    def _begin(self, place: Place, file: _File) -> None:
        chunk = file.next(self._chunk_rows)
        columns, work = self._expected[place[0]]

        def run() -> Made:
            made = work(chunk.cast(columns).combine_chunks())
            with self._guard:
                if self._files.get(place) is file:
                    self._count(file, sum(table.nbytes for table in made) - chunk.nbytes)
                    self._stay_within()
            return made

        file.made.append(POOL.submit(run))

    def _count(self, file: _File, change: int) -> None:
        file.bytes += change
        self._bytes += change

    def _stay_within(self) -> None:
        for oldest in tuple(self._files):
            if self._bytes <= self._most:
                break
            self._drop(oldest)
            self._given_up.add(oldest)

    def _drop(self, place: Place) -> None:
        for future in self._files[place].made:
            future.cancel()
        self._forget(place)

    def _forget(self, place: Place) -> None:
        self._bytes -= self._files.pop(place).bytes


#: The handover of this process.
HANDOVER = Handover()
