"""Replaces rows of a Gold table in one commit: files that hold them are written anew without them. No Spark.

deltalake's MERGE plans a join for it, over all files of the table; to look through the few files of their time, which
the log names, takes little more than half of that (docs/adr/0012).
Guarantee: as `BulkAppend`'s. Rows that are to stay are copied as they are.
Of many new rows, bars that are not final, and of other tables the newest of each market, come into files of their own:
the next batch changes them, and leaves the files of the others alone.
Gap: a row group is in memory at a time, and a file of a day may be long: a late trade of a day whose files were joined
has all of them written again, as MERGE has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction

from lakehouse.settings import Settings
from lakehouse.streams.batch_files import read_chunks
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import Table
from lakehouse.transforms.row_keys import RowKeys

#: New rows from which on it is worth a second file. A live stream's batches have fewer.
APART_ROWS = 50_000


class _File(NamedTuple):
    """A data file of a table, by its log: its path below the table, bytes, and the values of its partition."""

    path: str
    size: int
    partition: dict[str, str | None]


def replace(settings: Settings, table: Table, gone: RowKeys, rows: pa.Table, transaction: Transaction) -> None:
    """Take the rows at `gone` out of a table, where they are in it, and put `rows` in.

    Raises RetriableError where another writer was faster; nothing is changed then.
    """
    many = rows.num_rows >= APART_ROWS
    with BulkAppend(settings, table) as append:
        for chunk in _taken_out(append, settings, table, gone):
            left = chunk.filter(pa.array(~RowKeys.of(chunk, table.key).among(gone)))
            _add(append, left, _changing(table, left) if many else None)
        _add(append, rows, _changing(table, rows, new=True) if many else None)
        append.commit_alone(transaction)


def flag(settings: Settings, table: Table, places: RowKeys, column: str) -> None:
    """Set a column of flags in the rows at `places`, where they are in the table and it is false.

    Raises RetriableError where another writer was faster; nothing is changed then.
    """
    with BulkAppend(settings, table) as append:
        for chunk in _taken_out(append, settings, table, places, unless=f"min.{column}"):
            at = chunk.schema.get_field_index(column)
            flags = pc.or_(chunk.column(at), pa.array(RowKeys.of(chunk, table.key).among(places)))
            append.add(chunk.set_column(at, chunk.schema.field(at), flags))
        if append.any:
            append.commit_alone()


def _taken_out(
    append: BulkAppend, settings: Settings, table: Table, places: RowKeys, unless: str = ""
) -> Iterator[pa.Table]:
    """All rows, a chunk at a time, of the files that hold one of the places; the commit removes these files."""
    for file in _files_around(append.delta, table, places, unless):
        if _holds(settings, table, file.path, places):
            yield from read_chunks(settings, table, [file.path], table.column_names)
            append.remove(file.path, file.size, file.partition)


def _add(append: BulkAppend, rows: pa.Table, apart: Any) -> None:
    """Rows to the files of a commit, those apart that a mask names."""
    if apart is None:
        append.add(rows)
    else:
        append.add(rows.filter(pc.invert(apart)))
        append.add(rows.filter(apart), apart=True)


def _changing(table: Table, rows: pa.Table, new: bool = False) -> Any:
    """Which rows the next batch may change: bars that are not final, new rows that are the last of their market.

    None for old rows of a table without bars: a chunk does not tell which of them are the last.
    """
    if "is_final" in rows.column_names:
        return pc.invert(rows.column("is_final"))
    return _newest(table, rows) if new else None


def _newest(table: Table, rows: pa.Table) -> Any:
    """Which rows are the last of their market."""
    places = RowKeys.of(rows, table.key)
    names, name = places.pairs()
    last = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(last, name, places.start)
    return pa.array(places.start == last[name])


def _holds(settings: Settings, table: Table, path: str, wanted: RowKeys) -> bool:
    """Whether a file has a row at one of the places."""
    chunks = read_chunks(settings, table, [path], table.key)
    return any(RowKeys.of(chunk, table.key).among(wanted).any() for chunk in chunks)


def _files_around(delta: DeltaTable, table: Table, wanted: RowKeys, unless: str = "") -> Iterator[_File]:
    """Files of the days of some places that, by their statistics, may have rows between the first and the last.

    `unless` is one of the statistics; a file for which it is true is left out.
    """
    (day,) = table.partition_by
    start = table.key[-1]
    actions = pa.table(delta.get_add_actions(flatten=True))
    if not actions.num_rows or not len(wanted):
        return
    starts: Any = pa.array(wanted.start).cast(pa.timestamp("us", tz="UTC"))
    first, last = pc.min_max(starts).values()
    mask: Any = pc.is_in(actions[f"partition.{day}"].cast(pa.date32()), value_set=pc.unique(starts.cast(pa.date32())))
    bounds: Any = ((f"max.{start}", pc.greater_equal, first), (f"min.{start}", pc.less_equal, last))
    for column, compare, bound in bounds:
        if column in actions.column_names:  # a file without statistics may hold anything
            fits: Any = pc.fill_null(compare(actions[column].cast(starts.type), bound), True)
            mask = pc.and_(mask, fits)
    if unless in actions.column_names:
        flagged: Any = actions[unless]
        mask = pc.and_(mask, pc.invert(pc.fill_null(flagged, False)))
    for file in actions.filter(mask).select(["path", "size_bytes", f"partition.{day}"]).to_pylist():
        yield _File(file["path"], int(file["size_bytes"]), {day: str(file[f"partition.{day}"])})
