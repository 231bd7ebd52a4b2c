"""Appends many rows to a Delta table: Parquet by Arrow, one commit by deltalake.

Guarantee: no row is in the table before `commit` and all are after it, in one version, under a transaction id of
Delta's where one is given; where somebody else has changed the table meanwhile, `commit` raises deltalake's
CommitFailedError and adds nothing. A commit that was refused because of maintenance alone is made again. Rows of a file
keep their order.
A file is deleted only if no log can name it: before `commit`, or after one that does not stand and cannot any more.
Whether one stands, the log says, not the error (`table_log`, docs/adr/0015).
Gap: a process that is killed, or an object store that gives no answer, leaves files that no commit names; nobody reads
them, and `file_retention` deletes them.

deltalake's own writer needs twice the CPU for these rows: it sorts each piece by partition and copies it
(docs/adr/0011). Its commit is used as it is.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake import Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_cache, table_io
from lakehouse.lake.table_log import NO_HOOK, Commit, files_of, is_remote
from lakehouse.settings import Settings
from lakehouse.streams.handover import HANDOVER
from lakehouse.tables import Table

#: Rows of a row group. They wait in memory until there are so many: some 60 MB of raw messages.
ROW_GROUP_ROWS = 131_072

#: How often a commit is made that maintenance was quicker than. Each time there was another one, within milliseconds.
MOST_COMMITS = 10

#: A partition's value as text, by the column's place in `Table.partition_by`.
Values = tuple[str, ...]


class BulkAppend:
    """Rows on their way into one commit. A context manager: without a commit its files are deleted."""

    def __init__(self, settings: Settings, table: Table) -> None:
        self._settings, self._table = settings, table
        self.delta = table_io.open_table(settings, table)
        self._uri = table_io.table_uri(settings, table)
        self._files = files_of(self._uri)
        schema = table_io.arrow_schema(table)
        self._stored = pa.schema([field for field in schema if field.name not in table.partition_by])
        self._parts: dict[tuple[Values, bool], _Part] = {}
        self._removed: list[RemoveAction] = []
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._unnamed = True  #: no log names the files, and none will

    def add(self, rows: pa.Table, apart: bool = False) -> None:
        """Take rows of the table's columns and types, of any partitions; those `apart` come into files of their own."""
        for values, part in _by_partition(rows, self._table.partition_by):
            file = (values, apart)
            if file not in self._parts:
                folder = "/".join(
                    f"{name}={value}" for name, value in zip(self._table.partition_by, values, strict=True)
                )
                self._parts[file] = _Part(self._files, folder, self._stored, self._encoder)
            self._parts[file].add(part.select(self._stored.names).cast(self._stored))
            HANDOVER.put(self._uri, self._parts[file].path, part)

    @property
    def any(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._parts or self._removed)

    def remove(self, path: str, size: int, partition: Mapping[str, str | None]) -> None:
        """Take a whole file out of the table, in the same commit; its rows that are to stay are among the added."""
        self._removed.append(RemoveAction(path, True, time.time_ns() // 1_000_000, size, dict(partition)))

    def commit(self, transaction: Transaction | None = None) -> None:
        """One commit of it all. Raises CommitFailedError where somebody has changed the table since it was opened."""
        for part in self._parts.values():
            HANDOVER.written(self._uri, part.path)
        actions: list[AddAction | RemoveAction] = [
            part.action(dict(zip(self._table.partition_by, values, strict=True)))
            for (values, _), part in self._parts.items()
        ]
        actions += self._removed
        for left in reversed(range(MOST_COMMITS)):
            commit = Commit(self._uri, self.delta.version(), transaction)
            self._unnamed = False
            try:
                self._try(actions, commit)
                return
            except Exception as error:
                found = commit.found_after(error)
                if found.stands:
                    table_cache.forget(self._uri)
                    return
                is_refused = isinstance(error, CommitFailedError)
                self._unnamed = is_refused or not is_remote(self._uri)
                if not (is_refused and left and found.maintained) or found.moved & {one.path for one in self._removed}:
                    raise
                self.delta = table_io.open_table(self._settings, self._table)

    def _try(self, actions: list[AddAction | RemoveAction], commit: Commit) -> None:
        self.delta.create_write_transaction(
            actions,
            "append",
            self.delta.schema(),
            list(self._table.partition_by),
            commit_properties=commit.properties,
            post_commithook_properties=NO_HOOK,
        )

    def commit_alone(self, transaction: Transaction | None = None) -> None:
        """As `commit`, of a table that nobody else writes meanwhile. Raises RetriableError where somebody has."""
        try:
            self.commit(transaction)
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
            for part in self._parts.values():
                part.discard()
        self._encoder.shutdown()


class _Part:
    """The new file of one partition, at `path` below the table."""

    def __init__(self, files: pa_fs.FileSystem, folder: str, schema: pa.Schema, encoder: Executor) -> None:
        self._files, self._schema, self._encoder = files, schema, encoder
        self._encoding: Future[None] | None = None
        self.path = f"{folder}/part-00000-{uuid.uuid4()}-c000.zstd.parquet"
        files.create_dir(folder, recursive=True)
        self._sink = files.open_output_stream(self.path)
        self._meta: list[pq.FileMetaData] = []
        dictionary: Any = [name for name in schema.names if name not in table_io.NO_DICTIONARY]
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=dictionary,
            write_statistics=[field.name for field in schema if _has_bounds(field.type)],
            store_schema=False,
            metadata_collector=self._meta,
        )
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._rows += rows.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        """Encode what waits, beside whoever brings the next rows; one row group at a time."""
        self._written()
        if self._rows:
            rows = pa.concat_tables(self._waiting)
            self._encoding = self._encoder.submit(self._writer.write_table, rows, row_group_size=2 * ROW_GROUP_ROWS)
        self._waiting, self._rows = [], 0

    def _written(self) -> None:
        """Wait until the row groups before are in the file. Raises what has kept them from that."""
        if self._encoding is not None:
            self._encoding.result()
        self._encoding = None

    def action(self, values: Mapping[str, str]) -> AddAction:
        """Close the file; what the table's log says of it."""
        self._write()
        self._written()
        self._writer.close()
        self._sink.close()
        size = self._files.get_file_info(self.path).size
        stats = json.dumps(_statistics(self._meta[0], self._schema))
        return AddAction(self.path, int(size), dict(values), time.time_ns() // 1_000_000, True, stats)

    def discard(self) -> None:
        """Delete the file, as far as that can be done."""
        with contextlib.suppress(Exception):
            self._written()
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(Exception):
            self._sink.close()
        with contextlib.suppress(OSError):
            self._files.delete_file(self.path)


def _by_partition(rows: pa.Table, names: tuple[str, ...]) -> list[tuple[Values, pa.Table]]:
    """Rows by their values of the partition columns, each part in the order of the rows."""
    parts: list[tuple[Values, pa.Table]] = [((), rows)] if rows.num_rows else []
    for name in names:
        split: list[tuple[Values, pa.Table]] = []
        for values, part in parts:
            found = pc.unique(part.column(name))
            for value in found:
                text = str(value.as_py())
                if quote(text, safe="") != text:
                    raise AssertionError(
                        f"found the partition {name}={text!r}; expected a Kafka topic's name or a date"
                    )
                mine = part if len(found) == 1 else part.filter(pc.equal(part.column(name), value))
                split.append(((*values, text), mine))
        parts = split
    return parts


def _has_bounds(kind: pa.DataType) -> bool:
    """Nobody looks for raw bytes or prices by their bounds; in the log a decimal would be a float, and off."""
    return not (pa.types.is_binary(kind) or pa.types.is_decimal(kind))


def _statistics(meta: pq.FileMetaData, schema: pa.Schema) -> dict[str, Any]:
    """What Delta's log keeps of a file's columns. Source: Delta protocol, "Per-file Statistics"."""
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for number, name in enumerate(schema.names):
        found: list[Any] = [meta.row_group(group).column(number).statistics for group in range(meta.num_row_groups)]
        if any(one is None for one in found):
            continue
        nulls[name] = sum(one.null_count for one in found)
        if all(one.has_min_max for one in found):
            lowest[name] = _stated(min(one.min for one in found))
            highest[name] = _stated(max(one.max for one in found), up=True)
    return {"numRecords": meta.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}


def _stated(value: Any, up: bool = False) -> Any:
    """A bound as JSON. Times have milliseconds there, so an upper one is rounded up."""
    if isinstance(value, dt.datetime):
        if up and value.microsecond % 1000:
            value += dt.timedelta(milliseconds=1)
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"
    return value
