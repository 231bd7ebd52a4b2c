"""The rows of a Gold table that may have changed between two of its versions. No JVM.

Gold writes rows anew into new files, so the files that only the newer version has hold every row that is new or
changed, and some that are unchanged. A reader must compare all columns: a bar that becomes final keeps its `revision`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import TerminalError
from lakehouse.lake import table_io, unreadable
from lakehouse.settings import Settings
from lakehouse.tables import BAR_MINUTES, Table


@dataclass(frozen=True)
class Changes:
    """The difference between what a store holds of a table and the table's newest version.

    `version`: the newest version. `paths`: the data files to read. `rows`: UTC day → the table's number of rows, for
    each day whose files have changed, 0 if the day is gone. `whole`: the older version is unknown or no longer
    readable, so `paths` and `rows` are those of the whole table. Else `since` is the older version, `gone` are the
    files that only it has, and `to_read` is the number of rows in `paths` and `gone`.
    """

    table: Table
    version: int
    paths: frozenset[str]
    rows: dict[dt.date, int]
    whole: bool
    since: int | None = None
    gone: frozenset[str] = frozenset()
    to_read: int = 0


def bar_tables(settings: Settings) -> Iterator[tuple[Table, str]]:
    """Yield the tables of bars that exist, each with its size (1m, 5m, …), the shortest bars first."""
    sizes = {minutes: name for name, minutes in BAR_MINUTES.items()}
    for table, minutes in table_io.bar_tables(settings):
        try:
            table_io.open_table(settings, table)
        except TerminalError:  # the streams have not made it yet
            continue
        yield table, sizes[minutes]


def table_id(settings: Settings, table: Table) -> str:
    """Return Delta's id of a table: it changes if the table is made anew."""
    return str(table_io.open_table(settings, table).metadata().id)


def changes_since(settings: Settings, table: Table, since: int | None) -> Changes | None:
    """Return what changed after version `since`, None if nothing did. `since` is None for an empty store."""
    newest = table_io.open_table(settings, table)
    version = newest.version()
    if since == version:
        return None
    now = _files(newest)
    before = None if since is None else _files_at(settings, table, since)
    if before is None:
        return Changes(table, version, frozenset(now), _rows(now), True)
    new, gone = now.keys() - before.keys(), before.keys() - now.keys()
    days = {now[path][0] for path in new} | {before[path][0] for path in gone}
    counts = _rows(now)
    rows = {day: counts.get(day, 0) for day in sorted(days)}
    to_read = sum(now[path][1] for path in new) + sum(before[path][1] for path in gone)
    return Changes(table, version, frozenset(new), rows, False, since, frozenset(gone), to_read)


def read(settings: Settings, changes: Changes) -> Iterator[pa.Table]:
    """Yield the rows of the changed files, with the columns of the registry, a file or a part of a file at a time.

    Raises UnreadableVersionError if a file is gone or damaged.
    """
    return _read(settings, changes.table, changes.version, changes.paths)


def read_gone(settings: Settings, changes: Changes) -> Iterator[pa.Table]:
    """Yield the rows of the files that only the older version has, as `read` does.

    Such a row is no longer in the table if none of the changed files has it. Raises UnreadableVersionError if the
    files have been deleted meanwhile.
    """
    assert changes.since is not None
    return _read(settings, changes.table, changes.since, changes.gone)


def _read(settings: Settings, table: Table, version: int, paths: frozenset[str]) -> Iterator[pa.Table]:
    return rows_of(table, table_io.open_table(settings, table, version), paths)


def rows_of(
    table: Table, opened: DeltaTable, paths: Collection[str], only: pc.Expression | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of some files of a table at a version, a file or a part of a file at a time; `only` filters them.

    `paths` may be relative to the table, or URIs. Raises UnreadableVersionError if a file is gone or damaged.
    """
    schema = table_io.arrow_schema(table)
    for batch in _batches(opened, {_relative(path) for path in paths}, only):
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def _batches(opened: DeltaTable, wanted: set[str], only: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    if not wanted:
        return
    column = opened.metadata().partition_columns[0]
    values = sorted({path.partition("/")[0].partition("=")[2] for path in wanted})
    with unreadable.typed([opened], of_query=False):
        dataset = opened.to_pyarrow_dataset(file_pruning_predicate=[(column, "in", values)])
        for fragment in dataset.get_fragments(filter=only):
            if _relative(fragment.path) in wanted:
                yield from fragment.to_batches(schema=dataset.schema, filter=only)


#: Path relative to the table → its UTC day and rows.
_Files = dict[str, tuple[dt.date, int]]


def _files(opened: DeltaTable) -> _Files:
    actions = pa.table(opened.get_add_actions(flatten=True))
    if not actions.num_rows:
        return {}
    names = ("path", "partition.bar_date", "num_records")
    columns = [actions.column(name) for name in names]
    columns[1] = columns[1].cast(pa.date32())
    return {path: (day, rows or 0) for path, day, rows in zip(*(one.to_pylist() for one in columns), strict=True)}


def _files_at(settings: Settings, table: Table, version: int) -> _Files | None:
    """Return the files of an old version, None if its log is gone or it lies ahead: the table was restored."""
    try:
        return _files(table_io.open_table(settings, table, version))
    except (DeltaError, OSError, TerminalError):
        return None


def _rows(files: _Files) -> dict[dt.date, int]:
    counts: dict[dt.date, int] = {}
    for day, rows in files.values():
        counts[day] = counts.get(day, 0) + rows
    return counts


def _relative(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])
