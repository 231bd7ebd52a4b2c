"""`lakehouse export`: write trades, bars and the like to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse export` to the application."""
    app.command("export")(export)


def export(
    kind: Annotated[str, typer.Argument(help="trades, bars, indicators, moves or spreads.")],
    out: Annotated[Path, typer.Option(help="A file such as bars.csv, or a folder that gets a file a day.")],
    venue: Annotated[str | None, typer.Option(help="One venue. Default: all.")] = None,
    symbol: Annotated[str | None, typer.Option(help="One symbol, such as BTC/USDT. Default: all.")] = None,
    size: Annotated[str, typer.Option(help="Size of bars: 1m, 5m, or another that divides a day.")] = "1m",
    start: Annotated[str | None, typer.Option("--from", help="First moment, ISO 8601, UTC without an offset.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The moment behind the last, exclusive.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, parquet, jsonl or arrow. Default: by the file's ending.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Write rows to files, a day at a time. Run it again to go on: days that did not change are skipped.

    No stream waits for it. A file is whole or not there.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lakehouse.cli.homes import settings_as_started
    from lakehouse.client.export import Choice
    from lakehouse.client.export import export as run
    from lakehouse.client.lake import Lake
    from lakehouse.client.time_range import TimeRange

    wanted = TimeRange.of(start, end)
    choice = Choice(kind, venue, symbol, size, wanted.start, wanted.end)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, highlight=False)
    rows = days = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"export {kind}", total=None)
        for done in run(Lake(settings_as_started(home)), choice, out, form):
            rows, days = rows + done.rows, done.total
            progress.update(task, total=done.total, completed=done.number)
            if not console.is_terminal:
                console.print(f"{done.day}: {done.rows:,} rows{', there already' if done.skipped else ''}")
    typer.echo(f"{rows:,} rows of {days} days in {out}")
