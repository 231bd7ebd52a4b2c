"""Write new data files of a Delta table: Parquet by Arrow, and what the table's log says of each file. No commit.

Rows of a file keep their order. Runs in the driver and in executors alike. deltalake's own writer needs twice the CPU
for these rows: it sorts each piece by partition and copies it (docs/adr/0011).
Source of the statistics: Delta protocol, "Per-file Statistics".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from lakehouse.lake import table_io
from lakehouse.lake.table_log import files_of
from lakehouse.tables import Table

#: Number of rows in a row group. They wait in memory until there are so many: some 60 MB of raw messages.
ROW_GROUP_ROWS = 131_072

#: A partition's values as text, in the order of `Table.partition_by`.
Values = tuple[str, ...]


class DataFiles:
    """The new files of the table at `uri`, one for each partition that rows come of."""

    def __init__(self, uri: str, table: Table) -> None:
        self._files, self._table = files_of(uri), table
        schema = table_io.arrow_schema(table)
        self._stored = pa.schema([field for field in schema if field.name not in table.partition_by])
        self._parts: dict[tuple[Values, bool], _Part] = {}
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    def add(self, rows: pa.Table, apart: bool = False) -> list[tuple[str, pa.Table]]:
        """Take rows of the table's columns and types, of any partitions; those `apart` come into files of their own.

        Returns the path of each file, relative to the table's root, with the rows that went into it.
        """
        taken: list[tuple[str, pa.Table]] = []
        for values, part in _by_partition(rows, self._table.partition_by):
            file = (values, apart)
            if file not in self._parts:
                folder = "/".join(
                    f"{name}={value}" for name, value in zip(self._table.partition_by, values, strict=True)
                )
                self._parts[file] = _Part(self._files, folder, self._stored, self._encoder)
            self._parts[file].add(part.select(self._stored.names).cast(self._stored))
            taken.append((self._parts[file].path, part))
        return taken

    @property
    def paths(self) -> list[str]:
        """The paths of the files, relative to the table's root."""
        return [part.path for part in self._parts.values()]

    def finish(self) -> list[AddAction]:
        """Close the files and return their entries for the table's log."""
        return [
            part.action(dict(zip(self._table.partition_by, values, strict=True)))
            for (values, _), part in self._parts.items()
        ]

    def discard(self) -> None:
        """Delete the files, as far as that can be done."""
        for part in self._parts.values():
            part.discard()

    def close(self) -> None:
        """End the thread that encodes."""
        self._encoder.shutdown()


@contextlib.contextmanager
def new_files(uri: str, table: Table) -> Iterator[DataFiles]:
    """Yield the new files of a work; if it fails they are deleted. The work has to `finish` them."""
    files = DataFiles(uri, table)
    try:
        yield files
    except BaseException:
        files.discard()
        raise
    finally:
        files.close()


class _Part:
    """A new data file of one partition, at `path` below the table's root."""

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
        """Encode the waiting rows in the encoder's thread, while the caller goes on; one row group at a time."""
        self._written()
        if self._rows:
            rows = pa.concat_tables(self._waiting)
            self._encoding = self._encoder.submit(self._writer.write_table, rows, row_group_size=2 * ROW_GROUP_ROWS)
        self._waiting, self._rows = [], 0

    def _written(self) -> None:
        """Wait until the earlier row groups are in the file. Raises the error that has kept them from it."""
        if self._encoding is not None:
            self._encoding.result()
        self._encoding = None

    def action(self, values: Mapping[str, str]) -> AddAction:
        """Close the file and return the action that adds it to the table; `values` are its partition's."""
        self._write()
        self._written()
        self._writer.close()
        self._sink.close()
        size = self._files.get_file_info(self.path).size
        stats = json.dumps(_statistics(self._meta[0], self._schema))
        return AddAction(self.path, int(size), dict(values), time.time_ns() // 1_000_000, True, stats)

    def discard(self) -> None:
        """Close and delete the file. Errors are ignored: `file_retention` deletes what is left."""
        with contextlib.suppress(Exception):
            self._written()
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(Exception):
            self._sink.close()
        with contextlib.suppress(OSError):
            self._files.delete_file(self.path)


def _by_partition(rows: pa.Table, names: tuple[str, ...]) -> list[tuple[Values, pa.Table]]:
    """Split rows by their values of the partition columns; each part keeps the order of the rows."""
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
    """Return True if the log gets a column's bounds: all types but binary and decimal.

    Nobody looks for raw bytes or prices by their bounds, and in the log a decimal would be an inexact float.
    """
    return not (pa.types.is_binary(kind) or pa.types.is_decimal(kind))


def _statistics(meta: pq.FileMetaData, schema: pa.Schema) -> dict[str, Any]:
    """Return the statistics of a file for Delta's log. Source: Delta protocol, "Per-file Statistics"."""
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
    """Return a bound as JSON. A time has milliseconds there, so an upper bound (`up`) is rounded up."""
    if isinstance(value, dt.datetime):
        if up and value.microsecond % 1000:
            value += dt.timedelta(milliseconds=1)
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"
    return value


def remove_files(uri: str, paths: Sequence[str]) -> None:
    """Delete files of a table that no log names, as far as that can be done."""
    files = files_of(uri)
    for path in paths:
        with contextlib.suppress(OSError):
            files.delete_file(path)


class Written(Protocol):
    """The result of a work that has written `files`, by their log entries."""

    @property
    def files(self) -> tuple[AddAction, ...]: ...


def undo(uri: str, result: Written) -> None:
    """Delete the files of a unit of the table at `uri` whose batch failed, as far as that can be done."""
    remove_files(uri, [file.path for file in result.files])
