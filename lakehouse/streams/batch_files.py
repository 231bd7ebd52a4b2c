"""Rows of data files of a Delta table, read as Arrow, past the JVM.

Reading and decoding rows in the JVM, and handing them over to Python, would cost three times as much as reading the
files here (docs/adr/0008). Which files a batch holds, Spark says (`batch_plan`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.streams.handover import HANDOVER
from lakehouse.tables import Table

#: Rows that are decoded at a time: a few MB, however large the batch.
CHUNK_ROWS = 65_536


def read_chunks(settings: Settings, table: Table, paths: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of data files of a table, a chunk at a time, in the types of the registry.

    Rows that this process has just written are taken from its memory.
    """
    schema = lake.arrow_schema(table)
    wanted = pa.schema([schema.field(name) for name in columns])
    stored = [name for name in columns if name not in table.partition_by]
    uri = lake.table_uri(settings, table)
    files = lake.files_of(uri)
    for path in paths:
        kept = HANDOVER.take(uri, path)
        if kept is not None:
            for chunk in _in_chunks(kept):
                yield chunk.select(columns).cast(wanted).combine_chunks()
            continue
        values = _partition_values(path, table)
        with files.open_input_file(path) as source:
            for batch in pq.ParquetFile(source, pre_buffer=True).iter_batches(CHUNK_ROWS, columns=stored):
                arrays = {name: batch.column(name) for name in stored}
                for name in columns:
                    if name in values:
                        arrays[name] = pa.repeat(pa.scalar(values[name], schema.field(name).type), batch.num_rows)
                yield pa.table({name: arrays[name] for name in columns}).cast(wanted)


def _in_chunks(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables, in their order, some CHUNK_ROWS at a time."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        for start in range(0, table.num_rows, CHUNK_ROWS):
            waiting.append(table.slice(start, CHUNK_ROWS))
            rows += waiting[-1].num_rows
            if rows >= CHUNK_ROWS:
                yield pa.concat_tables(waiting)
                waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _partition_values(path: str, table: Table) -> dict[str, Any]:
    """Column → value of a file's partition, from the names of its folders, as Spark and deltalake write them."""
    named = dict(part.split("=", 1) for part in path.split("/")[:-1])
    types = {column.name: column.type for column in table.columns}
    return {
        name: dt.date.fromisoformat(named[name]) if types[name] == "date" else unquote(named[name])
        for name in table.partition_by
    }
