"""Replace or flag rows of a Gold table in one commit: the files that hold them are written anew. No Spark.

deltalake's MERGE would plan a join over all files of the table. The log names the few files of the rows' time, and
searching only those takes little more than half as long (docs/adr/0012).
Guarantee: that of `BulkAppend`. Rows that are to stay are copied as they are.
If many rows are new, those that the next batch will probably change (bars that are not final; in other tables the
newest row of each market) are written to files of their own, so that it need not rewrite the others' files.
Gap: only a row group is in memory at a time, but a late trade for a day whose files were joined causes the whole
joined file to be written again, as with MERGE.
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

#: Number of new rows from which on a second file is worth it. A live stream's batches have fewer.
APART_ROWS = 50_000


class _File(NamedTuple):
    """A data file of a table, by its log: its path below the table, bytes, and the values of its partition."""

    path: str
    size: int
    partition: dict[str, str | None]


def replace(settings: Settings, table: Table, gone: RowKeys, rows: pa.Table, transaction: Transaction) -> None:
    """Take the rows at `gone` out of a table, if they are in it, and put `rows` in.

    Raises RetriableError if another writer was faster; nothing is changed then.
    """
    many = rows.num_rows >= APART_ROWS
    with BulkAppend(settings, table) as append:
        for chunk in _taken_out(append, settings, table, gone):
            left = chunk.filter(pa.array(~RowKeys.of(chunk, table.key).among(gone)))
            _add(append, left, _changing(table, left) if many else None)
        _add(append, rows, _changing(table, rows, new=True) if many else None)
        append.commit_alone(transaction)


def flag(settings: Settings, table: Table, places: RowKeys, column: str) -> None:
    """Set the flag `column` to true in the rows at `places`; places that the table lacks are ignored.

    If no file has such a row whose flag may be false, nothing is committed. Raises RetriableError if another writer was
    faster; nothing is changed then.
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
    """Yield all rows, a chunk at a time, of the files that hold one of the places; the commit removes these files.

    `unless` is one of the log's statistics; files for which it is true are left alone.
    """
    for file in _files_around(append.delta, table, places, unless):
        if _holds(settings, table, file.path, places):
            yield from read_chunks(settings, table, [file.path], table.column_names)
            append.remove(file.path, file.size, file.partition)


def _add(append: BulkAppend, rows: pa.Table, apart: Any) -> None:
    """Add rows to a commit; those of the mask `apart` come into files of their own, none if it is None."""
    if apart is None:
        append.add(rows)
    else:
        append.add(rows.filter(pc.invert(apart)))
        append.add(rows.filter(apart), apart=True)


def _changing(table: Table, rows: pa.Table, new: bool = False) -> Any:
    """Return a mask of the rows that the next batch may change: bars that are not final, else the newest new rows.

    None for old rows of a table without bars: a chunk does not tell which of them are the newest of their market.
    """
    if "is_final" in rows.column_names:
        return pc.invert(rows.column("is_final"))
    return _newest(table, rows) if new else None


def _newest(table: Table, rows: pa.Table) -> Any:
    """Return a mask of the rows that are the newest of their market."""
    places = RowKeys.of(rows, table.key)
    names, name = places.pairs()
    last = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(last, name, places.start)
    return pa.array(places.start == last[name])


def _holds(settings: Settings, table: Table, path: str, wanted: RowKeys) -> bool:
    """Return True if a file has a row at one of the places."""
    chunks = read_chunks(settings, table, [path], table.key)
    return any(RowKeys.of(chunk, table.key).among(wanted).any() for chunk in chunks)


def _files_around(delta: DeltaTable, table: Table, wanted: RowKeys, unless: str = "") -> Iterator[_File]:
    """Yield the files of the places' days that, by their statistics, may have rows from the first place to the last.

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
