"""The rows of a micro-batch of a Delta source, read from its data files as Arrow, past the JVM.

Spark decides which files a batch holds and keeps that in the checkpoint; reading and decoding rows in the JVM, and
handing them over to Python, would cost three times as much as reading the files here (docs/adr/0008). The files are
those that Spark itself would scan: they are asked of the batch's own plan.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

#: Rows that are decoded at a time: a few MB, however large the batch.
CHUNK_ROWS = 65_536


def files_of(batch: DataFrame, root: str) -> list[str]:
    """Paths, relative to the table's root, of the data files of a micro-batch, in the order of Spark's scan."""
    found: dict[str, None] = {}
    base = _path(root).rstrip("/") + "/"
    _collect(batch._jdf.queryExecution().toRdd(), base, found)
    return list(found)


def _collect(rdd: Any, base: str, found: dict[str, None]) -> None:
    if rdd.getClass().getSimpleName() == "FileScanRDD":
        partitions = rdd.filePartitions()
        for number in range(partitions.size()):
            for file in partitions.apply(number).files():  # a large file may be in several partitions
                path = _path(str(file.filePath().toString()))
                if not path.startswith(base):
                    raise AssertionError(f"found the file {path}; expected one below {base}")
                found[path.removeprefix(base)] = None
        return
    dependencies = rdd.dependencies()
    for number in range(dependencies.size()):
        _collect(dependencies.apply(number).rdd(), base, found)


def _path(uri: str) -> str:
    """Without the scheme and its encoding; `s3a` and `s3` name the same object."""
    parts = urlsplit(uri)
    return unquote(f"{parts.netloc}{parts.path}") if parts.scheme else uri


def read_chunks(settings: Settings, table: Table, paths: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of data files of a table, a chunk at a time, in the types of the registry."""
    schema = lake.arrow_schema(table)
    wanted = pa.schema([schema.field(name) for name in columns])
    stored = [name for name in columns if name not in table.partition_by]
    files = pa_fs.PyFileSystem(DeltaStorageHandler(lake.table_uri(settings, table)))
    for path in paths:
        values = _partition_values(path, table)
        with files.open_input_file(path) as source:
            for batch in pq.ParquetFile(source, pre_buffer=True).iter_batches(CHUNK_ROWS, columns=stored):
                arrays = {name: batch.column(name) for name in stored}
                for name in columns:
                    if name in values:
                        arrays[name] = pa.repeat(pa.scalar(values[name], schema.field(name).type), batch.num_rows)
                yield pa.table({name: arrays[name] for name in columns}).cast(wanted)


def _partition_values(path: str, table: Table) -> dict[str, Any]:
    """Column → value of a file's partition, from the names of its folders, as Spark and deltalake write them."""
    named = dict(part.split("=", 1) for part in path.split("/")[:-1])
    types = {column.name: column.type for column in table.columns}
    return {
        name: dt.date.fromisoformat(named[name]) if types[name] == "date" else unquote(named[name])
        for name in table.partition_by
    }
