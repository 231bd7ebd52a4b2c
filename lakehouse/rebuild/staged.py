"""New rows of a table in data files that no commit names yet: nobody sees them, but they can be read here again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.lake import table_io
from lakehouse.rebuild.fingerprint import Fingerprint, fingerprint
from lakehouse.settings import Settings
from lakehouse.streams.data_files import DataFiles, remove_files
from lakehouse.streams.kept_trades import in_files
from lakehouse.tables import Table
from lakehouse.transforms.arrow_numpy import Integers, integers
from lakehouse.transforms.time_ranges import TimeRange, micros_of

#: Rows from which on the files are closed and new ones begun. Until then they wait in memory, or in open files.
FILE_ROWS = 250_000


class _Times(NamedTuple):
    """First and last time of the rows of a file at `path`, in microseconds since the epoch."""

    path: str
    first: int
    last: int


class Staged:
    """New rows for all of a table, in files beside those that its log names.

    Memory is bounded: at most FILE_ROWS and one more addition wait. `fingerprint` is that of all rows.
    """

    def __init__(self, settings: Settings, table: Table) -> None:
        self._settings, self._table = settings, table
        self._uri = table_io.table_uri(settings, table)
        self._files: DataFiles | None = None
        self._open_rows = 0
        self._times: list[_Times] = []
        self._actions: list[AddAction] = []
        self.fingerprint = Fingerprint()

    def add(self, rows: pa.Table) -> None:
        """Take rows of the table's columns and types."""
        if not rows.num_rows:
            return
        self.fingerprint += fingerprint(rows, self._table)
        if self._files is None:
            self._files = DataFiles(self._uri, self._table)
        for path, part in self._files.add(rows):
            if "ts_event" in part.column_names:
                times = integers(part.column("ts_event"))
                self._times.append(_Times(path, int(times.min()), int(times.max())))
        self._open_rows += rows.num_rows
        if self._open_rows >= FILE_ROWS:
            self.close()

    def close(self) -> None:
        """Close the files; the rows so far can be read then."""
        if self._files is not None:
            self._actions += self._files.finish()
            self._files.close()
            self._files, self._open_rows = None, 0

    def near(self, ranges: Sequence[TimeRange], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns of the trades whose ts_event lies in some ranges, a chunk at a time, if this is silver/trades.

        Closes the files before.
        """
        self.close()
        bounds = micros_of(ranges)
        paths = dict.fromkeys(file.path for file in self._times if _overlaps(bounds, file))
        yield from in_files(self._settings, list(paths))(ranges, columns)

    def take(self) -> list[AddAction]:
        """Close the files and hand them over: `discard` leaves them alone from here on."""
        self.close()
        actions, self._actions = self._actions, []
        return actions

    def discard(self) -> None:
        """Delete the files that nobody has taken, as far as that can be done."""
        if self._files is not None:
            self._files.discard()
            self._files.close()
            self._files = None
        remove_files(self._uri, [action.path for action in self._actions])


def _overlaps(bounds: Integers, file: _Times) -> bool:
    return bool(((bounds[:, 0] <= file.last) & (bounds[:, 1] > file.first)).any())
