"""SQL over the tables of a lake, for reading. deltalake runs it, in DataFusion's dialect.

`gold.bars_1m` and `bars_1m` name the same table. A table is opened only if the query names it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import pyarrow as pa
from deltalake import QueryBuilder
from deltalake.exceptions import DeltaError

from lakehouse.errors import SettingError
from lakehouse.lake import table_io, unreadable
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Roots of plans that change something.
_CHANGES = re.compile(r"\s*(Dml|CopyTo|Create\w*|Drop\w*|SetVariable|Statement|Prepare|Execute|Deallocate)\b")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
#: Statements without a plan of their own.
_SHOWS = re.compile(r"\s*(explain|describe)\b", re.IGNORECASE)
#: The one of them that runs what it explains.
_RUNS = re.compile(r"\s*explain\b.*\banalyze\b", re.IGNORECASE | re.DOTALL)
_NO_FIELD = re.compile(r"No field named (?:\w+\.)*\"?([^\s\".]+)\"?\.")
_VALID = re.compile(r"Valid fields are (.+)\.")
_NO_TABLE = re.compile(r"table '(?:datafusion\.)?(?:public\.)?([^']+)' not found")


def query(settings: Settings, sql: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Start a query and return (schema, batches) of its result; the batches are read while they are taken.

    Raises SettingError, one line, if the query cannot be read, would change something, or names a table or column that
    does not exist. Taking the batches raises it if the query fails then, UnreadableVersionError if a data file is gone.
    """
    builder, opened = _with_tables(settings, sql)
    try:
        _refuse_changes(builder, sql)
        reader = pa.RecordBatchReader.from_stream(builder.execute(sql))
    except DeltaError as error:
        raise _one_line(error, settings) from None
    return reader.schema, _batches(reader, settings, opened)


def _batches(reader: pa.RecordBatchReader, settings: Settings, opened: dict[str, int]) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise unreadable.of_file(error, opened) or _one_line(error, settings) from None


def _with_tables(settings: Settings, sql: str) -> tuple[QueryBuilder, dict[str, int]]:
    """Return a builder with the tables that a query names, and their versions by path."""
    words = {word.lower() for word in re.findall(r"\w+", sql)}
    builder = QueryBuilder()
    layers: set[str] = set()
    versions: dict[str, int] = {}
    for table in table_io.active_tables(settings):
        if table.name not in words:
            continue
        opened = table_io.open_table(settings, table)
        versions[table.path] = opened.version()
        if table.layer not in layers:
            builder.execute(f"CREATE SCHEMA {table.layer}").read_all()
            layers.add(table.layer)
        builder = builder.register(f"{table.layer}.{table.name}", opened).register(table.name, opened)
    return builder, versions


def _refuse_changes(builder: QueryBuilder, sql: str) -> None:
    """Raise SettingError if the plan would change something. A plan is made without running it."""
    bare = _COMMENT.sub(" ", sql)
    if _RUNS.match(bare):
        raise SettingError("EXPLAIN ANALYZE", "EXPLAIN, which runs nothing")
    if _SHOWS.match(bare):
        return
    plan = pa.table(builder.execute(f"EXPLAIN {sql}").read_all()).to_pylist()[0]["plan"]
    if _CHANGES.match(plan):
        raise SettingError("a query that changes something", "one that reads: SELECT …")


def names(settings: Settings) -> list[str]:
    """Return the full names, such as gold.bars_1m, of the tables that this lakehouse makes, even if not there yet."""
    return [_name(table) for table in table_io.active_tables(settings)]


def _name(table: Table) -> str:
    return f"{table.layer}.{table.name}"


def _one_line(error: Exception, settings: Settings) -> SettingError:
    text = " ".join(str(error).split())
    if found := _NO_TABLE.search(text):
        return _unknown("table", found[1], [*names(settings), *(name.split(".")[1] for name in names(settings))])
    if found := _NO_FIELD.search(text):
        valid = _VALID.search(text)
        columns = [one.strip().rsplit(".", 1)[-1].strip('"') for one in valid[1].split(",")] if valid else []
        return _unknown("column", found[1], columns)
    return SettingError(f"query failed: {text[:400]}", "SQL as DataFusion reads it")


def _unknown(kind: str, name: str, there_are: list[str]) -> SettingError:
    near = difflib.get_close_matches(name, there_are, n=3, cutoff=0.5)
    short = ", ".join(dict.fromkeys(there_are))
    return SettingError(
        f"no {kind} {name!r}",
        f"one of {short[:600]}",
        f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "",
    )
