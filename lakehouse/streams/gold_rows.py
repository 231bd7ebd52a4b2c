"""Rows of Gold: those of a table in some ranges of time, and one commit that makes them what was computed. No Spark.

Guarantee: `sync` leaves exactly the rows that were computed, in one commit: new ones are inserted, those whose content
differs are updated with the next revision, those that were not computed are deleted, and all others stay untouched.
Gap: it compares with the rows that it is given as existing: nobody else may write the table meanwhile (`lease.Turn`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Transaction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io, transactions
from lakehouse.settings import Settings
from lakehouse.streams.replacement import replace
from lakehouse.tables import SILVER_TRADES, Table
from lakehouse.transforms.arrow_numpy import Integers, Mask, kept
from lakehouse.transforms.row_keys import RowKeys, codes, is_in
from lakehouse.transforms.time_ranges import TimeRange, sql_in_ranges

#: Columns that are not content: a bar that becomes final is the same bar.
MAINTAINED = ("is_final", "revision", "updated_at", "bar_date")

UTC_MICROS = pa.timestamp("us", tz="UTC")


class StaleBatchError(RetriableError):
    """Raised if a table of Gold has been written from a newer version of Silver than this batch's."""


@dataclass(frozen=True)
class RowChanges:
    """Numbers of rows that one or more commits changed in a table; `rows` is the number of rows that were computed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    rows: int = 0

    @property
    def written(self) -> int:
        return self.inserted + self.updated

    @property
    def any(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)

    def plus(self, other: RowChanges) -> RowChanges:
        """Return the sum of both."""
        return RowChanges(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.rows + other.rows,
        )


def rows_in(
    settings: Settings, table: Table, ranges: Sequence[TimeRange], columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the rows of a Gold table that start in one of the ranges. Other days' partitions are not opened."""
    names = list(columns or table.column_names)
    schema = pa.schema([table_io.arrow_schema(table).field(name) for name in names])
    if not ranges:
        return schema.empty_table()
    there = sql_in_ranges(ranges, "bar_date", "bar_start")
    return table_io.sql(settings, f"SELECT {', '.join(names)} FROM t WHERE {there}", t=table).cast(schema)


def places_of(table: Table, rows: pa.Table) -> RowKeys:
    """Return the place of each row."""
    return RowKeys.of(rows, table.key)


def only(table: Table, rows: pa.Table, wanted: RowKeys) -> pa.Table:
    """Return the rows at the wanted places."""
    return kept(rows, places_of(table, rows).among(wanted))


def sync(
    settings: Settings, table: Table, existing: pa.Table, computed: pa.Table, of_silver: Transaction
) -> RowChanges:
    """Replace the rows `existing` of a table, with all its columns, by `computed`, in one commit.

    `computed` has the table's columns but for MAINTAINED; of these it has `is_final` if the table does. A bar that is
    final stays so. `of_silver` is the version of Silver from which the rows were computed, under Gold's application id.
    Raises StaleBatchError if the table has been written from a newer one, RetriableError if another writer was faster.
    """
    target = table_io.open_table(settings, table)
    newest = transactions.taken(table_io.table_uri(settings, table), target, of_silver.app_id)
    if newest is not None and newest > of_silver.version:
        raise StaleBatchError(
            f"{table.path} is already of version {newest} of {SILVER_TRADES.path}, this batch of {of_silver.version}",
            "one stream at a time, with the newest checkpoint",
            "stop the other one; this one can be started again",
        )
    now = dt.datetime.now(dt.UTC)
    schema = table_io.arrow_schema(table)
    were, are = codes(places_of(table, existing), places_of(table, computed))
    existing, were = _newest_each(existing, were)
    before: Any = pc.index_in(pa.array(are), value_set=pa.array(were))
    is_new: Mask = before.is_null().to_numpy(zero_copy_only=False)
    inserted = _first_rows(kept(computed, is_new), schema, now)
    changed = _changed(existing.take(before.drop_null()), kept(computed, ~is_new), schema, now)
    gone = kept(existing, ~is_in(were, are))
    if inserted.num_rows or changed.num_rows or gone.num_rows:
        old = pa.concat_tables([rows.select(table.key) for rows in (changed, gone)])
        replace(settings, table, places_of(table, old), pa.concat_tables([inserted, changed]), of_silver)
    return RowChanges(inserted.num_rows, changed.num_rows, gone.num_rows, computed.num_rows)


def _newest_each(rows: pa.Table, places: Integers) -> tuple[pa.Table, Integers]:
    """Return one row for each place, and its code: the last, if another writer left several."""
    _, from_behind = np.unique(places[::-1], return_index=True)
    if len(from_behind) == len(places):
        return rows, places
    last = np.sort(len(places) - 1 - from_behind)
    return rows.take(last), places[last]


def _first_rows(computed: pa.Table, schema: pa.Schema, now: dt.datetime) -> pa.Table:
    """Return new rows with all columns of the table, with revision 1."""
    count = computed.num_rows
    added = {
        "revision": pa.repeat(pa.scalar(1, schema.field("revision").type), count),
        "updated_at": pa.repeat(pa.scalar(now, schema.field("updated_at").type), count),
        "bar_date": computed.column("bar_start").cast(UTC_MICROS).cast(pa.date32()),
    }
    columns = {name: added[name] if name in added else computed.column(name) for name in schema.names}
    return pa.table(columns).cast(schema)


def _changed(old: pa.Table, computed: pa.Table, schema: pa.Schema, now: dt.datetime) -> pa.Table:
    """Return the rows of `computed` that must be written over those of `old`: with other content, or final now.

    Both have the same places, row by row.
    """
    new = computed.cast(pa.schema([schema.field(name) for name in computed.column_names]))
    other = np.zeros(old.num_rows, np.bool_)
    for name in schema.names:
        if name not in MAINTAINED:
            other |= _differs(old.column(name), new.column(name))
    written, differs = other, pa.array(other)
    columns: dict[str, Any] = {name: new.column(name) for name in new.column_names}
    if "is_final" in columns:
        was, final = old.column("is_final"), columns["is_final"]
        written = other | pc.and_not(final, was).to_numpy()
        columns["is_final"] = pc.or_(was, final)
    revision, stamp = schema.field("revision"), schema.field("updated_at")
    columns["revision"] = pc.add(old.column("revision"), differs.cast(revision.type))
    columns["updated_at"] = pc.if_else(differs, pa.scalar(now, stamp.type), old.column("updated_at").cast(stamp.type))
    columns["bar_date"] = old.column("bar_date")
    return pa.table({name: columns[name] for name in schema.names}).cast(schema).filter(pa.array(written))


def _differs(one: Any, other: Any) -> Mask:
    """Return a mask of the rows whose values differ; null is a value."""
    found = pc.not_equal(one, other)
    if found.null_count:
        found = pc.fill_null(found, pc.xor(one.is_null(), other.is_null()))
    mask: Mask = found.to_numpy()
    return mask
