"""Rows of newly written files, for the layer that reads them next in the same process.

Guarantee: what is handed over is what was written into that file, whole, or nothing: then the file is read. Who takes
rows gets them once. Memory is bounded; what is oldest goes first, and the newest file too where it alone is too large.
Gap: whether the file was committed is not known here; nobody asks for one that was not, as its name is in no log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow as pa

#: Bytes of all rows that wait: half a second of the fastest catch-up, some minutes of 1,000 trades/s.
MOST_BYTES = 256 * 1024 * 1024

#: Where a table is, and a file of it relative to that.
Place = tuple[str, str]


class Handover:
    """Rows by the place of their file, of tables that somebody in this process reads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._columns: dict[str, tuple[str, ...]] = {}
        self._rows: OrderedDict[Place, list[pa.Table]] = OrderedDict()
        self._given_up: set[Place] = set()  #: more rows of these may come; until somebody asks for them
        self._bytes = 0
        self._guard = threading.Lock()

    def expect(self, table: str, columns: tuple[str, ...]) -> None:
        """From now on keep these columns of what is written to the table at a URI."""
        with self._guard:
            self._columns[table] = columns

    def put(self, table: str, path: str, rows: pa.Table) -> None:
        """More rows of a file, in their order. All rows of a file have to be put."""
        with self._guard:
            columns = self._columns.get(table)
            if columns is None or (table, path) in self._given_up:
                return
            of_file = self._rows.setdefault((table, path), [])
            of_file.append(rows.select(columns))
            self._bytes += of_file[-1].nbytes
            for oldest in tuple(self._rows):
                if self._bytes <= self._most:
                    break
                self._drop(oldest)
                self._given_up.add(oldest)

    def take(self, table: str, path: str) -> list[pa.Table] | None:
        """All rows of a file, None where they are not here."""
        with self._guard:
            self._given_up.discard((table, path))
            return self._drop((table, path))

    def _drop(self, place: Place) -> list[pa.Table] | None:
        found = self._rows.pop(place, None)
        self._bytes -= sum(rows.nbytes for rows in found or ())
        return found


#: That of this process.
HANDOVER = Handover()
