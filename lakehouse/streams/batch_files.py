"""Rows of a Delta table's data files, read as Arrow without the JVM.

Reading and decoding rows in the JVM, and handing them over to Python, would cost three times as much as reading the
files here (docs/adr/0008). Spark decides which files a batch holds (`batch_plan`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import table_io
from lakehouse.lake.table_log import files_of
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, Table

#: Rows of a chunk: a few MB of trades, some 30 MB of raw messages.
CHUNK_ROWS = 65_536


def read_chunks(settings: Settings, table: Table, paths: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of a table's data files, a chunk at a time, in the types of the registry.

    A column that a file lacks has the partition's value, or null if the file is older than the column.
    """
    wanted = _types(table, columns)
    stored = [name for name in columns if name not in table.partition_by]
    files = files_of(table_io.table_uri(settings, table))
    for path in paths:
        values = _partition_values(path, table)
        with files.open_input_file(path) as source:
            for batch in pq.ParquetFile(source, pre_buffer=True).iter_batches(CHUNK_ROWS, columns=stored):
                arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
                for name in columns:
                    if name not in arrays:
                        value = pa.scalar(values.get(name), wanted.field(name).type)
                        arrays[name] = pa.repeat(value, batch.num_rows)
                yield pa.table({name: arrays[name] for name in columns}).cast(wanted)


def messages_at(settings: Settings, paths: Sequence[str], places: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the messages at some places in Kafka, of some columns, from data files of bronze/messages.

    `places` has the columns kafka_topic, kafka_partition and kafka_offset; `columns` has topic, partition and offset.
    """
    wanted = places.select(["kafka_topic", "kafka_partition", "kafka_offset"])
    found = [_types(BRONZE_MESSAGES, columns).empty_table()]
    for chunk in read_chunks(settings, BRONZE_MESSAGES, paths, columns):
        keys = chunk.select(BRONZE_MESSAGES.key).append_column("row", pa.array(np.arange(chunk.num_rows)))
        its = keys.join(wanted, list(BRONZE_MESSAGES.key), wanted.column_names, join_type="left semi")
        if its.num_rows:
            found.append(chunk.take(its.column("row")))
    return pa.concat_tables(found)


def _types(table: Table, columns: Sequence[str]) -> pa.Schema:
    schema = table_io.arrow_schema(table)
    return pa.schema([schema.field(name) for name in columns])


def _partition_values(path: str, table: Table) -> dict[str, Any]:
    """Return column → value of a file's partition, from the names of its folders, as Spark and deltalake write them."""
    named = dict(part.split("=", 1) for part in path.split("/")[:-1])
    types = {column.name: column.type for column in table.columns}
    return {
        name: dt.date.fromisoformat(named[name]) if types[name] == "date" else unquote(named[name])
        for name in table.partition_by
    }
