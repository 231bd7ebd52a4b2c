"""`lakehouse sink`: keep PostgreSQL or Redis up to date with the lakehouse."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.sinks.stores import Store

#: Seconds that `--once` waits for Kafka's newest trades.
KAFKA_SECONDS = 10.0

Home = Annotated[
    Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
]
Once = Annotated[bool, typer.Option("--once", help="Bring it to the newest version once, and end.")]


def register(app: typer.Typer) -> None:
    """Add the commands `lakehouse sink postgres` and `lakehouse sink redis` to the application."""
    group = typer.Typer(no_args_is_help=True, help="Keep PostgreSQL or Redis up to date with the lakehouse.")
    group.command("postgres")(postgres)
    group.command("redis")(redis)
    app.add_typer(group, name="sink")


def postgres(home: Home = None, once: Once = False) -> None:
    """Keep the table `bars` of PostgreSQL or TimescaleDB equal to Gold's bars, until Ctrl-C.

    The database is LAKEHOUSE_POSTGRES_URL. After an outage of the database the sink resumes at the version that it
    holds.
    """
    from lakehouse.sinks.stores import POSTGRES

    _keep(POSTGRES, home, once)


def redis(home: Home = None, once: Once = False) -> None:
    """Keep the latest prices and Gold's newest bars in Redis, until Ctrl-C.

    Redis is LAKEHOUSE_REDIS_URL. After an outage of Redis the sink resumes at the version that Redis holds.
    """
    from lakehouse.sinks.stores import REDIS

    _keep(REDIS, home, once)


def _keep(store: Store, home: Path | None, once: bool) -> None:
    from lakehouse.cli.homes import settings_as_started
    from lakehouse.sinks.run import follow

    with store.open(settings_as_started(home)) as sink:
        if once:
            if lacking := sink.lacks(KAFKA_SECONDS):
                typer.echo(f"{store.name}: {lacking}", err=True)
            for size, rows in sink.look().items():
                typer.echo(f"{size}: {rows:,} rows")
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        follow(sink, stop, lambda line: typer.echo(f"{store.name}: {line}", err=True))
