"""Rows of Gold: which are there in a time, and one commit that makes them what they should be. No Spark.

Guarantee: `sync` leaves exactly the rows that were computed, in one commit: new ones inserted, those whose content
differs updated with the next revision, those that are no more deleted, and all others not touched.
Gap: it compares with the rows that it is given as existing: nobody else may write the table meanwhile (`lease.Turn`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, Transaction, write_deltalake

from lakehouse import lake
from lakehouse.errors import RetriableError
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES, Table
from lakehouse.transforms.time_ranges import TimeRange, literal, sql_in_ranges

#: What is not content: a bar that becomes final is the same bar.
MAINTAINED = ("is_final", "revision", "updated_at", "bar_date")

UTC_MICROS = pa.timestamp("us", tz="UTC")

#: The first two columns of a table's key, and the start in microseconds since the epoch: a bar's place.
Place = tuple[str, str, int]


class StaleBatchError(RetriableError):
    """Gold has been written from a newer Silver than this batch's."""


@dataclass(frozen=True)
class RowChanges:
    """What one or more commits did to a table; `rows` is how many were computed."""

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
        """Of both."""
        return RowChanges(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.rows + other.rows,
        )


def rows_in(
    settings: Settings, table: Table, ranges: Sequence[TimeRange], columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a Gold table that start in one of the ranges. Other days' partitions are not opened."""
    names = list(columns or table.column_names)
    schema = pa.schema([lake.arrow_schema(table).field(name) for name in names])
    if not ranges:
        return schema.empty_table()
    there = sql_in_ranges(ranges, "bar_date", "bar_start")
    return lake.sql(settings, f"SELECT {', '.join(names)} FROM t WHERE {there}", t=table).cast(schema)


def places_of(table: Table, rows: pa.Table) -> list[Place]:
    """The place of each row."""
    first, second, start = table.key
    starts = rows.column(start).cast(UTC_MICROS).cast(pa.int64())
    columns: list[list[Any]] = [column.to_pylist() for column in (rows.column(first), rows.column(second), starts)]
    return list(zip(*columns, strict=True))


def only(table: Table, rows: pa.Table, wanted: Collection[Place]) -> pa.Table:
    """The rows at the wanted places."""
    return rows.filter(pa.array([place in wanted for place in places_of(table, rows)], pa.bool_()))


def sync(
    settings: Settings, table: Table, existing: pa.Table, computed: pa.Table, of_silver: Transaction
) -> RowChanges:
    """Make the rows `existing` of a table, all of its columns, into `computed`, which lacks what MAINTAINED names.

    `computed` has `is_final` where the table has it; a bar that is final stays so. `of_silver` is the version of Silver
    that the rows are of. Raises StaleBatchError where the table has been written from a newer one.
    deltalake commits a small Arrow table in a fiftieth of the time of Spark's MERGE (docs/adr/0002).
    """
    target = lake.open_table(settings, table)
    newest = target.transaction_version(of_silver.app_id)
    if newest is not None and newest > of_silver.version:
        raise StaleBatchError(
            f"{table.path} is already of version {newest} of {SILVER_TRADES.path}, this batch of {of_silver.version}",
            "one stream at a time, with the newest checkpoint",
            "stop the other one; this one can be started again",
        )
    now = dt.datetime.now(dt.UTC)
    schema = lake.arrow_schema(table)
    before = dict(zip(places_of(table, existing), existing.to_pylist(), strict=True))
    places = places_of(table, computed)
    is_new = pa.array([place not in before for place in places], pa.bool_())
    inserted = _first_rows(computed.filter(is_new), schema, now)
    changed = _changed(table, before, computed.filter(pc.invert(is_new)), now)
    gone = [before[place] for place in before.keys() - set(places)]
    if changed or gone:
        source = pa.concat_tables([inserted, pa.Table.from_pylist([*changed, *gone], schema=schema)])
        kept = inserted.num_rows + len(changed)
        flags = pa.array([False] * kept + [True] * len(gone), pa.bool_())
        _merge(target, table, source.append_column("gone", flags), of_silver)
    elif inserted.num_rows:
        write_deltalake(target, inserted, mode="append", commit_properties=_properties(of_silver))
    return RowChanges(inserted.num_rows, len(changed), len(gone), computed.num_rows)


def _first_rows(computed: pa.Table, schema: pa.Schema, now: dt.datetime) -> pa.Table:
    """Rows that the table does not have, as it gets them."""
    count = computed.num_rows
    added = {
        "revision": pa.repeat(pa.scalar(1, schema.field("revision").type), count),
        "updated_at": pa.repeat(pa.scalar(now, schema.field("updated_at").type), count),
        "bar_date": computed.column("bar_start").cast(UTC_MICROS).cast(pa.date32()),
    }
    columns = {name: added[name] if name in added else computed.column(name) for name in schema.names}
    return pa.table(columns).cast(schema)


def _changed(
    table: Table, before: Mapping[Place, dict[str, Any]], computed: pa.Table, now: dt.datetime
) -> list[dict[str, Any]]:
    """Of rows that the table has, those that are to be written: with other content, or final now."""
    content = [name for name in table.column_names if name not in MAINTAINED]
    found: list[dict[str, Any]] = []
    for place, row in zip(places_of(table, computed), computed.to_pylist(), strict=True):
        old = before[place]
        if any(old[name] != row[name] for name in content):
            final = {"is_final": old["is_final"] or row["is_final"]} if "is_final" in row else {}
            found.append({**old, **row, **final, "revision": old["revision"] + 1, "updated_at": now})
        elif row.get("is_final") and not old["is_final"]:
            found.append({**old, "is_final": True})
    return found


def set_final(settings: Settings, table: Table, bars: Iterable[Place]) -> None:
    """Flag bars as final, in one commit; neither their revision nor `updated_at` changes."""
    rows = [{"venue": venue, "symbol": symbol, "bar_start": start} for venue, symbol, start in bars]
    source = pa.Table.from_pylist(rows)
    starts = source.column("bar_start").cast(UTC_MICROS)
    source = source.set_column(2, "bar_start", starts).append_column("bar_date", starts.cast(pa.date32()))
    target = lake.open_table(settings, table)
    merger = target.merge(source, _same_row(table, source), source_alias="s", target_alias="t")
    merger.when_matched_update({"is_final": "true"}, predicate="NOT t.is_final").execute()


def _merge(target: Any, table: Table, source: pa.Table, of_silver: Transaction) -> None:
    others = {name: f"s.{name}" for name in table.column_names if name not in (*table.key, "bar_date")}
    merger = target.merge(
        source,
        _same_row(table, source),
        source_alias="s",
        target_alias="t",
        commit_properties=_properties(of_silver),
    )
    if any(source.column("gone").to_pylist()):
        merger = merger.when_matched_delete(predicate="s.gone")
    merger.when_matched_update(others, predicate="NOT s.gone").when_not_matched_insert(
        {name: f"s.{name}" for name in table.column_names}, predicate="NOT s.gone"
    ).execute()


def _properties(of_silver: Transaction) -> CommitProperties:
    return CommitProperties(app_transactions=[of_silver])


def _same_row(table: Table, source: pa.Table) -> str:
    """The condition that joins source and target; days and times let Delta leave all other files alone."""
    dates = ", ".join(f"DATE '{date}'" for date in sorted({str(day) for day in source.column("bar_date").to_pylist()}))
    starts: Any = pc.min_max(source.column("bar_start").cast(UTC_MICROS)).as_py()
    first, last = (literal(starts[end]) for end in ("min", "max"))
    same = " AND ".join(f"t.{name} = s.{name}" for name in (*table.key, "bar_date"))
    return f"t.bar_date IN ({dates}) AND t.bar_start >= {first} AND t.bar_start <= {last} AND {same}"
