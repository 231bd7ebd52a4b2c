"""The lake without a JVM: creates, opens, queries and appends to the Delta tables through deltalake.

Guarantee: `append_rows` with a transaction is exactly once per (application id, version), by Delta's own transaction
identifiers. Limit: deltalake takes object-store credentials from the environment; they are not checked here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lakehouse.errors import RetriableError, TerminalError
from lakehouse.lake import table_cache, transactions, unreadable
from lakehouse.lake.table_log import NO_HOOK, Commit
from lakehouse.settings import Settings
from lakehouse.tables import BAR_MINUTES, BARS, SPANS, TABLES, Table

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

#: Seconds for which a commit stays in the log at least. A thread trusts for 60 s that what it has open is the newest
#: (`table_cache.TRUSTED_SECONDS`), and a catch-up's batch takes minutes.
LOG_SECONDS = 300

#: The same for the tables that users read as they were at a version or a time (`lakehouse.client`).
HISTORY_SECONDS = 3_600

#: Delta table properties of every table. Every commit and every look at a table lists its log, so a log is kept short:
#: `streams/upkeep.py` removes what nobody needs any more, and nobody else does. A log checkpoint is a small
#: file from deltalake; from Spark it made an append of 4,000 rows 4.4 s long instead of 0.5 s, so there is one in 50
#: commits. It names the files that a table no longer has for a quarter of a day; `streams/file_retention.py` deletes
#: them.
PROPERTIES = {
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": f"interval {HISTORY_SECONDS // 60} minutes",
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 6 hours",
}

#: How often an append is tried again that another writer was quicker than; some milliseconds each. With deltalake's 15
#: one of three writers beside a compaction has given up once, on a busy machine.
APPEND_RETRIES = 100

#: Columns that Parquet files hold without a dictionary, because they differ in nearly every row. It saves a quarter of
#: the time to write silver/trades and a tenth of its size, and a third of the time to write bars.
NO_DICTIONARY = frozenset(
    {
        *("offset", "kafka_offset", "trade_id", "ts_event", "ts_ingest", "value_raw"),
        *("first_trade_id", "last_trade_id", "volume", "quote_volume", "vwap", "buy_volume", "sell_volume", "pressure"),
        *(f"{name}_{span}" for name in ("sma", "vwap") for span in SPANS),
        *("simple_return", "log_return", "change", "spread", "spread_bps"),
    }
)

#: How deltalake writes files with many rows, as `bulk_append` does. `value_raw` has no statistics, as no query filters
#: by it.
WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties={
        **dict.fromkeys(sorted(NO_DICTIONARY), ColumnProperties(dictionary_enabled=False)),
        "value_raw": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
    },
)


def bar_tables(settings: Settings) -> tuple[tuple[Table, int], ...]:
    """Return (table, length in minutes) of each table of bars that this lakehouse makes, the shortest first."""
    return tuple((BARS[minutes], minutes) for size, minutes in BAR_MINUTES.items() if size in settings.bar_sizes)


def active_tables(settings: Settings) -> tuple[Table, ...]:
    """Return the tables that this lakehouse has: all of the registry except bars of sizes that it does not make."""
    made = [table for table, _ in bar_tables(settings)]
    return tuple(table for table in TABLES if table in made or table not in BARS.values())


def arrow_type(sql_type: str) -> pa.DataType:
    """Return the Arrow type of a Spark SQL type of the registry. Raises KeyError for a type that it does not use."""
    decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", sql_type)
    if decimal:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    return _ARROW_TYPES[sql_type]


@functools.cache
def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a registered table, nullability included."""
    return pa.schema([pa.field(column.name, arrow_type(column.type), column.nullable) for column in table.columns])


def table_uri(settings: Settings, table: Table) -> str:
    """Return the path or URI of a table: the lake's root and the table's path."""
    return f"{settings.lake.rstrip('/')}/{table.path}"


def ensure_tables(settings: Settings) -> None:
    """Create the tables of this lakehouse (`active_tables`) that do not exist yet, and bring older ones up to date.

    A table of an older version gets today's table properties, and the columns that it lacks if they may be null. Raises
    TerminalError if that is not enough. Several processes may call it at once. It is cheap if this thread has opened
    all tables before: no log is read from its beginning then.
    """
    for table in active_tables(settings):
        uri = table_uri(settings, table)
        try:
            there = table_cache.newest(uri)
        except TableNotFoundError:
            _create(table, uri)
            there = table_cache.newest(uri)
        _bring_up_to_date(table, there)


def _create(table: Table, uri: str) -> None:
    try:
        DeltaTable.create(
            uri,
            schema=arrow_schema(table),
            mode="ignore",
            partition_by=list(table.partition_by),
            description=table.grain,
            configuration=PROPERTIES,
            # Tried again, the loser of a race would commit a second creation, with another table id, on top.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        if not DeltaTable.is_deltatable(uri):  # somebody else has created it in the same moment: good
            raise


def _bring_up_to_date(table: Table, there: DeltaTable) -> None:
    """Add the columns that an older version of ours did not have and that may be null, and set today's properties.

    Raises TerminalError if that is not enough: the table needs to be written anew.
    """
    if PROPERTIES.items() - there.metadata().configuration.items():
        with contextlib.suppress(CommitFailedError):  # somebody else commits in this moment: at the next start
            there.alter.set_table_properties(PROPERTIES, post_commithook_properties=NO_HOOK)
    fields = {field.name: field for field in there.schema().fields}
    missing = [column for column in table.columns if column.name not in fields]
    if not missing and len(fields) == len(table.columns):
        return
    surplus = sorted(fields.keys() - set(table.column_names))
    if surplus or any(not column.nullable for column in missing):
        names = ", ".join([*(f"no {column.name}" for column in missing), *surplus])
        raise TerminalError(
            f"table {table.path} of an older version ({names})",
            "the columns of this one",
            f"move it and the {table.layer} checkpoint away: the {table.layer} stream writes it anew",
        )
    schema = Schema.from_arrow(arrow_schema(table))
    new = [field for field in schema.fields if field.name not in fields]
    try:
        there.alter.add_columns(new, post_commithook_properties=NO_HOOK)
    except CommitFailedError:  # somebody else has added them in the same moment: good
        there.update_incremental()
        if not set(table.column_names) <= {field.name for field in there.schema().fields}:
            raise


def open_table(settings: Settings, table: Table, version: int | None = None) -> DeltaTable:
    """Open a table at its newest, or a given, version. Raises TerminalError if there is no such table.

    Without a version, every call in a thread returns the same object, and moves it to the newest version. To read
    today's state later, note `version()` now.
    """
    uri = table_uri(settings, table)
    try:
        return table_cache.newest(uri) if version is None else DeltaTable(uri, version=version)
    except TableNotFoundError:
        raise TerminalError(
            f"no table {table.path} in {settings.lake}", "a lake that a stream has written", "start `lakehouse stream`"
        ) from None


def row_count(delta_table: DeltaTable) -> int:
    """Count the rows of a table by the statistics in its log; no data file is read. A file without them counts as 0."""
    actions = pa.table(delta_table.get_add_actions(flatten=True))
    return sum(value or 0 for value in actions.column("num_records").to_pylist()) if actions.num_rows else 0


class DayFiles(NamedTuple):
    """The files of one day of a table, by its log. `written`: when the newest was written, in epoch seconds."""

    files: int
    rows: int
    written: float


def days(settings: Settings, table: Table, version: int | None = None) -> dict[dt.date, DayFiles]:
    """Return UTC day → its files, for a table that is partitioned by day, in order, at its newest or a given version.

    Only the table's log is read, so the data files of an old version need not exist any more.
    """
    actions = pa.table(open_table(settings, table, version).get_add_actions(flatten=True))
    if not actions.num_rows:
        return {}
    day = f"partition.{table.partition_by[0]}"
    found = actions.group_by(day).aggregate([("path", "count"), ("num_records", "sum"), ("modification_time", "max")])
    names = ("path_count", "num_records_sum", "modification_time_max")
    columns = (found[day].cast(pa.date32()), *(found[name] for name in names))
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return {day: DayFiles(files, records or 0, written / 1000) for day, files, records, written in sorted(rows)}


def sql(settings: Settings, query: str, **tables: DeltaTable | Table) -> pa.Table:
    """Run a SQL query (DataFusion) and return its result; each keyword is the name of a table in the query.

    Raises UnreadableVersionError if a data file is gone or damaged, RetriableError if an object store does not answer,
    TerminalError if a table does not exist or the query fails while it runs, DeltaError if the query cannot begin.
    """
    opened = _opened(settings, tables)
    with unreadable.typed(opened.values()):
        return pa.table(_execute(query, opened).read_all())


def sql_batches(settings: Settings, query: str, **tables: DeltaTable | Table) -> Iterator[pa.RecordBatch]:
    """Run a query as `sql` does, and yield its result batch by batch, so that it is never in memory as a whole."""
    opened = _opened(settings, tables)
    with unreadable.typed(opened.values()):
        yield from pa.RecordBatchReader.from_stream(_execute(query, opened))


def _opened(settings: Settings, tables: dict[str, DeltaTable | Table]) -> dict[str, DeltaTable]:
    return {name: open_table(settings, one) if isinstance(one, Table) else one for name, one in tables.items()}


def _execute(query: str, tables: dict[str, DeltaTable]) -> Any:
    builder = QueryBuilder()
    for name, table in tables.items():
        builder = builder.register(name, table)
    return builder.execute(query)


def append_rows(
    settings: Settings, table: Table, rows: list[dict[str, Any]], transaction: tuple[str, int] | None = None
) -> int:
    """Append a few rows (column → value) in one commit and return the table's version after it.

    `transaction` is (application id, version) in Delta's sense: if the table has seen this version of the application,
    or a later one, nothing is appended. Raises RetriableError if the disk is full, TerminalError if there is no such
    table; deltalake's other errors pass, such as CommitFailedError if another process commits the same transaction.
    """
    delta_table = open_table(settings, table)
    if transaction is not None:
        seen = transactions.taken(table_uri(settings, table), delta_table, transaction[0])
        if seen is not None and seen >= transaction[1]:
            return delta_table.version()
    of_delta = None if transaction is None else Transaction(*transaction)
    commit = Commit(table_uri(settings, table), delta_table.version(), of_delta, APPEND_RETRIES)
    data = pa.Table.from_pylist(rows, schema=arrow_schema(table))
    _write(delta_table, data, "append", commit)
    return open_table(settings, table).version()


def overwrite(settings: Settings, table: Table, rows: pa.Table) -> None:
    """Replace all rows of a table by `rows`, in one commit. Raises like `append_rows`."""
    delta_table = open_table(settings, table)
    commit = Commit(table_uri(settings, table), delta_table.version(), retries=APPEND_RETRIES)
    _write(delta_table, rows, "overwrite", commit)


def _write(delta_table: DeltaTable, rows: pa.Table, mode: Literal["append", "overwrite"], commit: Commit) -> None:
    try:
        with commit.certain():
            write_deltalake(
                delta_table, rows, mode=mode, commit_properties=commit.properties, post_commithook_properties=NO_HOOK
            )
    except (OSError, DeltaError) as error:
        if "No space left" not in str(error):
            raise
        where = delta_table.table_uri
        raise RetriableError(
            f"no space left to write {where}", "space on the disk", "make some, and try again"
        ) from error
