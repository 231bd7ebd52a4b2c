"""What the next layer makes of newly written rows, made while they are being written, in the same process.

A layer says what it does first with rows of a table, a chunk at a time (`expect`); whoever writes that table puts its
rows here as well (`put`, `written`), and the results are there when the layer's batch comes (`take`).
Guarantee: what is taken is of all rows of that file, in their order, or nothing: then the file is read. Each file's
results are taken once. Memory is bounded; what is oldest goes first, and the newest file too where it alone is too
large.
Gap: whether the file was committed is not known here; nobody asks for one that was not, as its name is in no log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import pyarrow as pa

from lakehouse.streams.side_by_side import POOL

#: Bytes of all rows, or of what was made of them, that wait: a second of the fastest catch-up's raw messages.
MOST_BYTES = 256 * 1024 * 1024

#: Rows of a chunk, however large the file: a few MB of trades, some 30 of raw messages.
CHUNK_ROWS = 65_536

#: Where a table is, and a file of it relative to that.
Place = tuple[str, str]

#: What is made of a chunk: tables.
Made = tuple[pa.Table, ...]
Work = Callable[[pa.Table], Made]


class _File:
    """A file's rows that are no chunk yet, and what is, or will be, made of those before."""

    def __init__(self) -> None:
        self.waiting: list[pa.Table] = []
        self.rows = 0
        self.made: list[Future[Made]] = []
        self.bytes = 0

    def next(self, most: int) -> pa.Table:
        """The next chunk of the waiting rows, `most` of them where there are so many."""
        there = pa.concat_tables(self.waiting)
        chunk = there.slice(0, most)
        self.waiting, self.rows = ([there.slice(most)], self.rows - most) if self.rows > most else ([], 0)
        return chunk


class Handover:
    """Files of tables that somebody in this process reads, by their places."""

    def __init__(self, most_bytes: int = MOST_BYTES, chunk_rows: int = CHUNK_ROWS) -> None:
        self._most, self._chunk_rows = most_bytes, chunk_rows
        self._expected: dict[str, tuple[pa.Schema, Work]] = {}
        self._files: OrderedDict[Place, _File] = OrderedDict()
        self._given_up: set[Place] = set()  #: more rows of these may come; until somebody asks for them
        self._bytes = 0
        self._guard = threading.Lock()

    def expect(self, table: str, columns: pa.Schema, work: Work) -> None:
        """From now on apply `work` to chunks of what is written to the table at a URI, of these columns and types."""
        with self._guard:
            self._expected[table] = columns, work

    def dismiss(self, table: str) -> None:
        """Nobody reads the table any more: what waits of it goes, and nothing is done with what comes."""
        with self._guard:
            self._expected.pop(table, None)
            self._given_up = {place for place in self._given_up if place[0] != table}
            for place in [place for place in self._files if place[0] == table]:
                self._drop(place)

    def put(self, table: str, path: str, rows: pa.Table) -> None:
        """More rows of a file, in their order. All rows of a file have to be put."""
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
        """All rows of a file have been put."""
        with self._guard:
            file = self._files.get((table, path))
            if file is not None and file.rows:
                self._begin((table, path), file)

    def take(self, table: str, path: str) -> list[Future[Made]] | None:
        """What is made of a file's rows, chunk after chunk; None where they are not here."""
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


#: That of this process.
HANDOVER = Handover()
