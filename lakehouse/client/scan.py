"""A lazy scan: rows of one version of a table, which are read only when they are asked for.

deltalake runs it (DataFusion). It opens only the files whose partition and statistics can match the filters, and reads
only the columns that are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.client import extras
from lakehouse.client.filters import Filter, Value, behind, where
from lakehouse.errors import SettingError, one_line
from lakehouse.lake import table_io
from lakehouse.lake.unreadable import UnreadableVersionError
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Opens a table at a version. The default opens it anew, or uses what the calling thread has open.
OpenAt = Callable[[Table, int], DeltaTable]


@dataclass(frozen=True)
class Scan:
    """Rows of a table at one version, which are not read until `arrow`, `batches`, `count` or the like is called.

    These raise UnreadableVersionError, a TerminalError, if the version's log or files are no longer kept. `filters` are
    joined by AND. `columns` are those of the result, all if empty; `order` are the columns that order it. `made`
    computes the result from the rows read, if no table holds it: bars of a size that Gold lacks, filled minutes,
    certificates. The result begins after the row whose key is `after`, and has at most `limit` rows. `open_at` opens
    the table; None does it by `table_io.open_table`.
    """

    settings: Settings
    table: Table
    version: int
    filters: tuple[Filter, ...] = ()
    columns: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    as_float: bool = False
    made: Callable[[pa.Table], pa.Table] | None = None
    after: tuple[Value, ...] = ()
    limit: int | None = None
    open_at: OpenAt | None = None

    def page(self, after: tuple[Value, ...], limit: int) -> Scan:
        """Return the scan of at most `limit` rows after the row with the key `after`, the columns of `order`.

        `after` is () for the first page. Raises SettingError for a scan whose rows are computed: they are read as a
        whole.
        """
        if self.made is not None:
            raise SettingError("a page of computed rows", "the whole of them")
        return dataclasses.replace(self, after=after, limit=limit)

    def select(self, *columns: str) -> Scan:
        """Return the scan of these columns only. Raises SettingError for an unknown column."""
        for name in columns:
            if name not in self.schema.names:
                raise SettingError(f"no column {name!r} in {self.table.path}", f"one of {', '.join(self.schema.names)}")
        return dataclasses.replace(self, columns=columns)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the result."""
        whole = table_io.arrow_schema(self.table)
        if self.made is not None:
            whole = self.made(whole.empty_table()).schema
        fields = [whole.field(name) for name in self.columns or whole.names]
        return pa.schema([_float_field(field) if self.as_float else field for field in fields])

    @property
    def sql(self) -> str:
        """The query to run, in which the table is named `rows`."""
        names = table_io.arrow_schema(self.table).names if self.made is not None or not self.columns else self.columns
        order = f" ORDER BY {_quoted(self.order)}" if self.order else ""
        later = [behind(self.order, self.after)] if self.after else []
        limit = f" LIMIT {self.limit}" if self.limit is not None else ""
        return f"SELECT {_quoted(names)} FROM rows{where(self.filters, *later)}{order}{limit}"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the result batch by batch, so that it is never in memory as a whole, unless `made` computes it."""
        if self.made is not None:  # a few bars: of a whole range, and not of a batch
            yield from self.arrow().to_batches()
            return
        schema = self.schema
        for batch in table_io.sql_batches(self.settings, self.sql, rows=self.opened()):
            yield from _floats(pa.table(batch), self.as_float).cast(schema).to_batches()

    def arrow(self) -> pa.Table:
        """Read the result as an Arrow table. Decimals are exact unless `as_float` was asked for."""
        if self.made is None:
            return pa.Table.from_batches(list(self.batches()), self.schema)
        schema = self.schema
        found = table_io.sql(self.settings, self.sql, rows=self.opened())
        rows = self.made(found.cast(table_io.arrow_schema(self.table)))
        return _floats(rows.select(schema.names), self.as_float).cast(schema)

    def polars(self) -> Any:
        """Read the result as a polars.DataFrame. Raises MissingDependencyError if polars is not installed."""
        return extras.load("polars").from_arrow(self.arrow())

    def pandas(self) -> Any:
        """Read the result as a pandas.DataFrame with Arrow-backed columns, so that decimals and nulls stay as they are.

        Raises MissingDependencyError if pandas is not installed.
        """
        pandas = extras.load("pandas")
        return self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def duckdb(self, connection: Any = None) -> Any:
        """Read the result as a duckdb.DuckDBPyRelation of `connection`, or of DuckDB's default connection.

        Raises MissingDependencyError if duckdb is not installed.
        """
        return (connection or extras.load("duckdb")).from_arrow(self.arrow())

    def count(self) -> int:
        """Count the rows of the result."""
        if self.made is not None:
            return self.arrow().num_rows
        inner = (self if self.after else dataclasses.replace(self, order=())).sql
        found = table_io.sql(self.settings, f"SELECT count(*) AS n FROM ({inner})", rows=self.opened())
        return int(found.column("n")[0].as_py())

    def opened(self) -> DeltaTable:
        """Open the table at the scan's version; reuse the table that this thread has open if it is at that version."""
        try:
            if self.open_at is not None:
                return self.open_at(self.table, self.version)
            newest = table_io.open_table(self.settings, self.table)
            if newest.version() == self.version:
                return newest
            return table_io.open_table(self.settings, self.table, self.version)
        except (DeltaError, OSError) as error:
            raise UnreadableVersionError(
                f"version {self.version} of {self.table.path} cannot be read ({one_line(error)[:200]})"
            ) from error


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _float_field(field: Any) -> Any:
    return field.with_type(pa.float64()) if pa.types.is_decimal(field.type) else field


def _floats(rows: pa.Table, wanted: bool) -> pa.Table:
    if not wanted:
        return rows
    columns = [pc.cast(one, pa.float64()) if pa.types.is_decimal(one.type) else one for one in rows.columns]
    return pa.table(dict(zip(rows.column_names, columns, strict=True)))
