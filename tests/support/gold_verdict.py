"""The verdict on Gold: its tables row for row and column for column against `gold_reference`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.lake.table_io import active_tables, bar_tables, sql
from lakehouse.settings import Settings
from lakehouse.tables import Table
from tests.support.gold_reference import Row, reference

SHOWN_DIFFERENCES = 8

#: Not a function of the trades alone.
NOT_COMPARED = ("revision", "updated_at")
#: Not worked out by `reference`: they follow from the key, and from the clock.
DERIVED = ("bar_date", "is_final")


def rows_of(settings: Settings, table: Table) -> list[Row]:
    """All rows of a table as plain dicts by key, every column; times as integer microseconds."""
    found = sql(settings, f"SELECT * FROM t ORDER BY {', '.join(table.key)}", t=table)
    for place, field in enumerate(found.schema):
        if pa.types.is_timestamp(field.type):
            found = found.set_column(place, field.name, found.column(place).cast(pa.int64()))
    rows: list[Row] = found.to_pylist()
    return rows


def gold_tables(settings: Settings) -> tuple[Table, ...]:
    """The Gold tables that a lakehouse has by its settings."""
    return tuple(table for table in active_tables(settings) if table.layer == "gold")


def assert_gold_equals_reference(
    settings: Settings, trades: pa.Table | Path | str, settled: bool = True
) -> dict[str, int]:
    """Check every Gold table against the trades, row by row and column by column; return the rows of each table.

    `settled`: every bar must be final, too; else `is_final` is not looked at.
    """
    sizes = [minutes for _, minutes in bar_tables(settings)]
    wanted = reference(trades, sizes, settings.move_threshold)
    failures = []
    for table in gold_tables(settings):
        differences = table_differences(table, rows_of(settings, table), wanted[table.path], settled)
        if differences:
            shown = [*differences[:SHOWN_DIFFERENCES], *(["…"] if len(differences) > SHOWN_DIFFERENCES else [])]
            failures.append("\n  ".join([f"{table.path}: {len(differences):,} differences, of which:", *shown]))
    if failures:
        raise AssertionError("Gold against the reference\n" + "\n".join(failures))
    return {path: len(rows) for path, rows in wanted.items()}


def table_differences(table: Table, rows: Iterable[Row], wanted: Iterable[Row], settled: bool = True) -> list[str]:
    """Differences between a table's rows and the wanted ones, one line per row; empty if there are none."""
    expected = {tuple(row[name] for name in table.key): _derived(table, row) for row in wanted}
    skipped = {*NOT_COMPARED, *(() if settled else ("is_final",))}
    compared = [name for name in table.column_names if name not in skipped]
    found, seen = [], set()
    for row in rows:
        key = tuple(row[name] for name in table.key)
        want = expected.get(key)
        if key in seen:
            found.append(f"{_named(key)}: more than once")
        elif want is None:
            found.append(f"{_named(key)}: there, not expected")
        else:
            unlike = [f"{name} is {row[name]}, expected {want[name]}" for name in compared if row[name] != want[name]]
            if unlike:
                found.append(f"{_named(key)}: {', '.join(unlike)}")
        seen.add(key)
    found += [f"{_named(key)}: missing" for key in sorted(expected.keys() - seen)]
    return found


def _derived(table: Table, row: Row) -> Row:
    """The row with the DERIVED columns that the table has, as they are once everything is settled."""
    derived: Row = {"bar_date": _utc(row["bar_start"]).date(), "is_final": True}
    return row | {name: value for name, value in derived.items() if name in table.column_names}


def _named(key: tuple[Any, ...]) -> str:
    *names, start = key
    return f"{' '.join(map(str, names))} {_utc(start):%Y-%m-%d %H:%M}"


def _utc(microseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC)
