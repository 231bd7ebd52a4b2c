"""Append many rows to a Delta table in one commit by deltalake.

Guarantee: no row is in the table before `commit` and all are after it, in one version, under a transaction id of
Delta's if one is given. If somebody else has changed the table meanwhile, `commit` raises deltalake's CommitFailedError
and adds nothing. A commit that was refused because of maintenance alone is made again.
A file is deleted only if no log can name it: before `commit`, or after one that does not stand and cannot any more.
The log tells whether one stands, not the error (`table_log`, docs/adr/0015).
Limit: a process that is killed, or an object store that gives no answer, leaves files that no commit names; nobody
reads them, and `file_retention` deletes them.

The files come from `data_files`, of this process or of executors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_cache, table_io, transactions
from lakehouse.lake.table_log import NO_HOOK, Commit, is_remote
from lakehouse.settings import Settings
from lakehouse.streams.data_files import DataFiles, remove_files
from lakehouse.tables import Table

#: Number of attempts at a commit that maintenance is quicker than. Each needs a further commit of maintenance within
#: some milliseconds, so more of them would not help.
MOST_COMMITS = 10


#: URI of a table that is written in order → its version and its newest file's time, as this process left them.
_NEWEST: dict[str, tuple[int, int]] = {}


class BulkAppend:
    """New rows and removed files that go into a table by one commit.

    A context manager: at its end the new files are deleted if no log can name them. With `in_order` the files' times in
    the log ascend from file to file and from commit to commit, whatever the clock says; for a table with one writer.
    """

    def __init__(self, settings: Settings, table: Table, in_order: bool = False) -> None:
        self._settings, self._table, self._in_order = settings, table, in_order
        self.delta = table_io.open_table(settings, table)
        self._uri = table_io.table_uri(settings, table)
        self._new = DataFiles(self._uri, table)
        self._adopted: list[AddAction] = []
        self._removed: list[RemoveAction] = []
        self._unnamed = True  #: true if no log names the new files, and none will

    def add(self, rows: pa.Table, apart: bool = False) -> None:
        """Take rows of the table's columns and types, of any partitions; rows `apart` come into files of their own."""
        self._new.add(rows, apart)

    def adopt(self, files: Sequence[AddAction]) -> None:
        """Take whole new files that somebody else wrote for this commit. Without a commit they are deleted, too."""
        self._adopted += files

    @property
    def any(self) -> bool:
        """True if there is something to commit."""
        return bool(self._new.paths or self._adopted or self._removed)

    def remove(self, path: str, size: int, partition: Mapping[str, str | None]) -> None:
        """Take a whole file, of `size` bytes, out of the table in the same commit. Add its rows that are to stay."""
        self._removed.append(RemoveAction(path, True, time.time_ns() // 1_000_000, size, dict(partition)))

    def commit(self, transaction: Transaction | None = None, instead: bool = False) -> int:
        """Commit all added rows and removed files at once, and return the table's version after it.

        With `instead` the rows replace all that the table has.
        Raises CommitFailedError if another writer has changed the table's rows since it was opened, and other errors of
        deltalake if the commit is not in the log afterwards.
        """
        files = [*self._new.finish(), *self._adopted]
        newest = 0
        if self._in_order:
            files, newest = self._timed(files)
        actions: list[AddAction | RemoveAction] = [*files, *self._removed]
        for left in reversed(range(MOST_COMMITS)):
            commit = Commit(self._uri, self.delta.version(), transaction)
            self._unnamed = False
            try:
                self._try(actions, commit, instead)
                # deltalake does not try again, and leaves the open table as it was.
                version = self.delta.version() + 1
                if self._in_order:
                    _NEWEST[self._uri] = (version, newest)
                if transaction is not None:
                    transactions.note(self._uri, self.delta, transaction, version)
                return version
            except Exception as error:
                found = commit.found_after(error)
                if found.stands:
                    table_cache.forget(self._uri)
                    return table_io.open_table(self._settings, self._table).version()
                is_refused = isinstance(error, CommitFailedError)
                self._unnamed = is_refused or not is_remote(self._uri)
                if not (is_refused and left and found.maintained) or found.moved & {one.path for one in self._removed}:
                    raise
                self.delta = table_io.open_table(self._settings, self._table)
        raise AssertionError("found no end of a commit; expected a version or an error")

    def _timed(self, files: list[AddAction]) -> tuple[list[AddAction], int]:
        """Return the files with times (ms since the epoch) that ascend from the table's newest one, and the last time.

        The table's is looked up if another process, or maintenance, has committed since this one did.
        """
        version, newest = _NEWEST.get(self._uri, (-1, 0))
        if version != self.delta.version():
            times = pa.table(self.delta.get_add_actions()).column("modification_time").cast(pa.int64())
            newest = pc.max(times).as_py() or 0
        first = max(time.time_ns() // 1_000_000, newest + 1)
        timed = [replace(file, modification_time=first + number) for number, file in enumerate(files)]
        return timed, first + len(files) - 1

    def _try(self, actions: list[AddAction | RemoveAction], commit: Commit, instead: bool) -> None:
        self.delta.create_write_transaction(
            actions,
            "overwrite" if instead else "append",
            self.delta.schema(),
            list(self._table.partition_by),
            commit_properties=commit.properties,
            post_commithook_properties=NO_HOOK,
        )

    def commit_alone(self, transaction: Transaction | None = None) -> int:
        """Commit like `commit`, to a table with a single writer. Raises RetriableError if another writer was faster."""
        try:
            return self.commit(transaction)
        except CommitFailedError as error:
            raise RetriableError(
                f"{self._table.path} took somebody else's commit in the place of this batch's ({error})",
                "one writer",
                "stop the other one; this one can be started again",
            ) from None

    def __enter__(self) -> BulkAppend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unnamed:
            self._new.discard()
            remove_files(self._uri, [one.path for one in self._adopted])
        self._new.close()
