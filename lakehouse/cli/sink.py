"""`lakehouse sink`: keep another program's store like Gold."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import SettingError


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(no_args_is_help=True, help="Keep another program's store like Gold.")
    group.command("postgres")(postgres)
    app.add_typer(group, name="sink")


def postgres(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Bring it to the newest version once, and end.")] = False,
) -> None:
    """Keep the table `bars` of PostgreSQL or TimescaleDB equal to Gold's bars, until Ctrl-C.

    The database is LAKEHOUSE_POSTGRES_URL. After an outage of the database it goes on where the database stands.
    """
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.sinks.postgres import PostgresSink
    from lakehouse.sinks.run import follow

    settings = settings_as_started(home)
    if settings.postgres_url is None:
        raise SettingError(
            "no LAKEHOUSE_POSTGRES_URL", "the database of the sink", "set postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    with PostgresSink(settings, settings.postgres_url.get_secret_value()) as sink:
        if once:
            for size, rows in sink.look().items():
                typer.echo(f"{size}: {rows:,} rows read")
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        follow(sink, stop, lambda line: typer.echo(f"postgres: {line}", err=True))
