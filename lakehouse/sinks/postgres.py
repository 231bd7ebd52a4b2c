"""Bars in PostgreSQL or TimescaleDB, equal to Gold's at a version that the database itself records.

Guarantee: rows and their version are written in one transaction. So after the death of a sink or a database, work
resumes at the version that the database holds, with nothing lost and nothing doubled. Rows that Gold no longer has are
deleted.
Limit: what another program changes in the table stays until Gold changes that row, or its day's number of rows differs.

Table `bars`: the columns of Gold's bars, and `size` (1m, 5m, …) before them; key (size, venue, symbol, bar_start).
Table `lakehouse_sinks`: per size, Delta's id of the table and the version that `bars` holds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from lakehouse.client import extras
from lakehouse.errors import RetriableError, SettingError, TerminalError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.sinks.gold_changes import Changes, bar_tables, changes_since, read, table_id
from lakehouse.sinks.run import LOOK_SECONDS, Held
from lakehouse.tables import BAR_MINUTES, BARS, GOLD_BARS_1M, Table

log = logging.getLogger(__name__)

_SQL_TYPES = {"string": "text", "bigint": "bigint", "boolean": "boolean", "timestamp": "timestamptz", "date": "date"}
_COLUMNS = [column for column in GOLD_BARS_1M.columns if column.name != "bar_date"]
_KEY = ("size", "venue", "symbol", "bar_start")
_NAMES = ("size", *(column.name for column in _COLUMNS))

#: Seconds that PostgreSQL may take for one statement, and for a connection to be made.
STATEMENT_SECONDS = 60
CONNECT_SECONDS = 10

_CREATE = f"""
CREATE TABLE IF NOT EXISTS bars (
    size text NOT NULL,
    {", ".join(f"{one.name} {_SQL_TYPES.get(one.type, 'numeric(38,18)')} NOT NULL" for one in _COLUMNS)},
    PRIMARY KEY ({", ".join(_KEY)})
);
CREATE TABLE IF NOT EXISTS lakehouse_sinks (
    size text PRIMARY KEY, table_id text NOT NULL, version bigint NOT NULL, updated_at timestamptz NOT NULL
);
"""
# All are compared: a bar that becomes final keeps its revision.
_VALUES = [name for name in _NAMES if name not in _KEY]
_UPSERT = f"""
INSERT INTO bars ({", ".join(_NAMES)}) SELECT {", ".join(_NAMES)} FROM incoming
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in _VALUES)}
WHERE ({", ".join(f"bars.{name}" for name in _VALUES)}) IS DISTINCT FROM
      ({", ".join(f"EXCLUDED.{name}" for name in _VALUES)})
"""


class PostgresSink:
    """A connection that keeps the table `bars` up to date with Gold's bars. A context manager. Not thread-safe.

    Raises SettingError if the URL cannot be read as PostgreSQL's, MissingDependencyError without psycopg2.
    """

    every = LOOK_SECONDS

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._url = url
        self._driver: Any = extras.load("psycopg2", "postgres")
        self._connection: Any = None
        try:
            host = self._driver.extensions.parse_dsn(url).get("host", "")
        except self._driver.ProgrammingError:  # its message quotes the password
            host = "@"
        if "@" in host:  # the end of a password with an @ of its own, which must be %40
            raise SettingError(
                "a LAKEHOUSE_POSTGRES_URL that cannot be read", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )

    def __enter__(self) -> PostgresSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(self._driver.Error):
                self._connection.close()
            self._connection = None

    def look(self) -> dict[str, int]:
        """Bring every size of bars to Gold's newest version, and return size → rows read, for the sizes that changed.

        Raises RetriableError if the database does not answer, TerminalError if it refuses what is asked of it.
        """
        with self._errors():
            connection = self._connected()
            done: dict[str, int] = {}
            for table, size in bar_tables(self._settings):
                rows = self._bring(connection, table, size)
                if rows is not None:
                    done[size] = rows
            return done

    def held(self) -> dict[str, Held]:
        """Return what the database holds, by size of bars. Raises as `look`."""
        with self._errors(), self._connected() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT size, table_id, version FROM lakehouse_sinks")
            return {size: Held(identity, version) for size, identity, version in cursor.fetchall()}

    def rows(self) -> int:
        """Return the number of bars in the database: what Gold had at the versions that the database holds.

        The database does not count them, which would take minutes on years of bars. Raises as `look`.
        """
        return sum(
            table_io.row_count(table_io.open_table(self._settings, BARS[BAR_MINUTES[size]], there.version))
            for size, there in self.held().items()
        )

    def trouble(self) -> str:
        """Return an empty text: this sink needs only Gold and its database."""
        return ""

    def lacks(self, seconds: float) -> str:  # noqa: ARG002 - the other sink's
        """Return an empty text at once: this sink reads nothing beside Gold."""
        return ""

    def _bring(self, connection: Any, table: Table, size: str) -> int | None:
        identity = table_id(self._settings, table)
        with connection, connection.cursor() as cursor:  # one transaction
            cursor.execute("SELECT table_id, version FROM lakehouse_sinks WHERE size = %s FOR UPDATE", (size,))
            there = cursor.fetchone()
            same = there is not None and there[0] == identity
            changes = changes_since(self._settings, table, there[1] if same else None)
            if changes is None:
                return None
            rows = self._write(cursor, changes, size)
            cursor.execute(
                "INSERT INTO lakehouse_sinks VALUES (%s, %s, %s, now()) ON CONFLICT (size) DO UPDATE "
                "SET table_id = EXCLUDED.table_id, version = EXCLUDED.version, updated_at = EXCLUDED.updated_at",
                (size, identity, changes.version),
            )
            return rows

    def _write(self, cursor: Any, changes: Changes, size: str) -> int:
        cursor.execute("CREATE TEMP TABLE incoming (LIKE bars INCLUDING DEFAULTS) ON COMMIT DROP")
        counted = 0
        for rows in read(self._settings, changes):
            counted += rows.num_rows
            cursor.copy_expert(f"COPY incoming ({', '.join(_NAMES)}) FROM STDIN (FORMAT csv)", _csv(rows, size))
        cursor.execute(_UPSERT)
        self._delete(cursor, changes, size)
        return counted

    def _delete(self, cursor: Any, changes: Changes, size: str) -> None:
        """Delete the rows that Gold no longer has: of all days, if the whole table was read, else of changed ones."""
        if changes.whole:
            cursor.execute(f"DELETE FROM bars WHERE size = %s AND NOT EXISTS ({_IN_INCOMING})", (size,))
            return
        for day, rows in changes.rows.items():
            start = dt.datetime.combine(day, dt.time(), dt.UTC)
            span = (size, start, start + dt.timedelta(days=1))
            cursor.execute("SELECT count(*) FROM bars WHERE size = %s AND bar_start >= %s AND bar_start < %s", span)
            if cursor.fetchone()[0] != rows:
                self._compare_day(cursor, changes, size, span)

    def _compare_day(self, cursor: Any, changes: Changes, size: str, span: tuple[Any, ...]) -> None:
        cursor.execute("TRUNCATE incoming")
        rows = table_io.sql(
            self._settings,
            f"SELECT * FROM bars WHERE bar_date = DATE '{span[1].date().isoformat()}'",
            bars=table_io.open_table(self._settings, changes.table, changes.version),
        ).cast(table_io.arrow_schema(changes.table))
        cursor.copy_expert(f"COPY incoming ({', '.join(_NAMES)}) FROM STDIN (FORMAT csv)", _csv(rows, size))
        cursor.execute(_UPSERT)
        cursor.execute(
            f"DELETE FROM bars WHERE size = %s AND bar_start >= %s AND bar_start < %s AND NOT EXISTS ({_IN_INCOMING})",
            span,
        )

    def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            options = f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c timezone=UTC"
            self._connection = self._driver.connect(self._url, connect_timeout=CONNECT_SECONDS, options=options)
            self._prepare(self._connection)
        return self._connection

    def _prepare(self, connection: Any) -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lakehouse_sinks'))")
            cursor.execute(_CREATE)
            cursor.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
            if cursor.fetchone()[0]:
                cursor.execute(
                    "SELECT create_hypertable('bars', 'bar_start', if_not_exists => true, migrate_data => true)"
                )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into one line of ours, without the URL, which may hold a password."""
        try:
            yield
        except (self._driver.OperationalError, self._driver.InterfaceError) as error:
            self.close()
            raise RetriableError(f"PostgreSQL does not answer ({_first_line(error)})", "a running server") from None
        except self._driver.Error as error:
            self.close()
            raise TerminalError(
                f"PostgreSQL refused ({_first_line(error)})", "a table `bars` as this sink makes it"
            ) from None


_IN_INCOMING = "SELECT 1 FROM incoming i WHERE " + " AND ".join(f"i.{name} = bars.{name}" for name in _KEY)


def _csv(rows: pa.Table, size: str) -> io.BytesIO:
    """Write rows as CSV that COPY reads, with the columns of `bars`."""
    columns = {"size": pa.repeat(pa.scalar(size), rows.num_rows)} | {
        one.name: rows.column(one.name) for one in _COLUMNS
    }
    # PostgreSQL reads Arrow's own words for decimals, times and booleans.
    text = pa.table(
        {name: one if pa.types.is_integer(one.type) else one.cast(pa.string()) for name, one in columns.items()}
    )
    file = io.BytesIO()
    pyarrow.csv.write_csv(text, file, pyarrow.csv.WriteOptions(include_header=False))
    file.seek(0)
    return file


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
