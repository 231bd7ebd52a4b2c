"""Rows of a Delta table's data files, read as Arrow without the JVM.

Reading and decoding rows in the JVM, and handing them over to Python, would cost three times as much as reading the
files here (docs/adr/0008). Spark decides which files a batch holds (`batch_plan`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import table_io
from lakehouse.lake.table_log import files_of
from lakehouse.settings import Settings
from lakehouse.streams.handover import CHUNK_ROWS, HANDOVER, Made, Work
from lakehouse.streams.side_by_side import in_order
from lakehouse.tables import Table


def made_of(
    settings: Settings, table: Table, paths: Sequence[str], columns: Sequence[str], work: Work
) -> Iterator[Made]:
    """Yield the results of `work` on all rows of data files, one for each chunk of a file, in the order of the rows.

    `work` must be the function that `expect` was given for the table: on the rows of files that this process has just
    written it is already done, or being done, and those results are taken.
    """
    uri = table_io.table_uri(settings, table)
    waiting: list[str] = []
    for path in paths:
        made = HANDOVER.take(uri, path)
        if made is None:
            waiting.append(path)
            continue
        yield from in_order(work, read_chunks(settings, table, waiting, columns))
        waiting = []
        for future in made:
            yield future.result()
    yield from in_order(work, read_chunks(settings, table, waiting, columns))


def expect(settings: Settings, table: Table, columns: Sequence[str], work: Work) -> None:
    """Begin to do `work` on the rows of a table, of these columns, whenever this process writes some."""
    HANDOVER.expect(table_io.table_uri(settings, table), _types(table, columns), work)


def dismiss(settings: Settings, table: Table) -> None:
    """End what `expect` began for a table; results that nobody has taken are dropped."""
    HANDOVER.dismiss(table_io.table_uri(settings, table))


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
