"""`lakehouse broker`: run the embedded Kafka in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import BrokerUnavailableError
from lakehouse.settings import load_settings

#: Seconds between two looks at the JVM: its end is reported within this time.
CHECK_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse broker` to the application."""
    app.command("broker")(broker)


def broker(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1; default: last time's, else a free one.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Run a real single-node Apache Kafka with the three topics, until Ctrl-C. Needs only Java."""
    from lakehouse.broker.embedded import EmbeddedBroker
    from lakehouse.broker.topics import ensure_topics

    settings = load_settings(home=home, broker_port=port)
    _end_on_signals()
    embedded = EmbeddedBroker(settings)
    with embedded:
        ensure_topics(settings, embedded.bootstrap)
        print(f"Kafka is ready at {embedded.bootstrap}", flush=True)
        print(f"data in {settings.broker_home}; Ctrl-C stops", file=sys.stderr)
        while embedded.alive:
            time.sleep(CHECK_SECONDS)
        raise BrokerUnavailableError(
            f"Kafka ended by itself: {embedded.last_words()}", remedy=f"see {settings.broker_home / 'logs'}"
        )


def _end_on_signals() -> None:
    """Let SIGINT and SIGTERM end this process in order, once: context managers run, the exit code is 0."""

    def end(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C must not cut the clean stop short.
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
