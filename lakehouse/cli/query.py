"""`lakehouse query`: run SQL over the tables, for reading."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.errors import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows printed if nobody says how many.
DEFAULT_LIMIT = 1_000


class Format(StrEnum):
    """Forms of a result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse query` to the application."""
    app.command("query")(query)


def query(
    sql: Annotated[str, typer.Argument(help="Such as \"SELECT * FROM bars_1m WHERE venue = 'kraken'\".")],
    form: Annotated[
        Format, typer.Option("--format", help="Form of the result; json is an object a line.")
    ] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option(help="File to write; needed for parquet. Default: standard output.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most rows; 0 for all.")] = DEFAULT_LIMIT,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Run SQL (DataFusion's) over all tables: gold.bars_1m or bars_1m, silver.trades or trades, and so on.

    Nothing can be changed. No stream waits for it.
    """
    import pyarrow as pa

    from lakehouse.cli.homes import settings_as_started
    from lakehouse.client.query import query as run

    if form is Format.PARQUET and out is None:
        raise SettingError("--format parquet without a file", "--out FILE.parquet")
    schema, batches = run(settings_as_started(home), sql)
    taken: list[pa.RecordBatch] = []
    left = limit or sys.maxsize
    more = False
    for batch in batches:
        if batch.num_rows > left:
            more = True
        taken.append(batch.slice(0, left))
        left -= taken[-1].num_rows
        if more:
            break
    _write(pa.Table.from_batches(taken, schema), form, out)
    if more:
        print(f"lakehouse: the first {limit:,} rows; --limit 0 gives all", file=sys.stderr)


def _write(rows: pa.Table, form: Format, out: Path | None) -> None:
    if form is Format.TABLE and out is None:
        _print_table(rows)
        return
    from lakehouse.client.files import write_rows

    write_rows(rows, "jsonl" if form is Format.JSON else "csv" if form is Format.TABLE else form.value, out)


def _print_table(rows: pa.Table) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lakehouse.client.text import cell

    view = Table(show_edge=False, header_style="bold")
    for name in rows.column_names:
        is_number = str(rows.schema.field(name).type).startswith(("int", "uint", "float", "double", "decimal"))
        view.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows.to_pylist():
        view.add_row(*(Text("" if value is None else str(cell(value))) for value in row.values()))
    console = Console()
    # A pipe or a file has no width of its own, and would get a terminal's 80 columns.
    console = console if console.is_terminal else Console(width=max(80, console.measure(view).maximum))
    console.print(view)
