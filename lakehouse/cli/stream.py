"""`lakehouse stream bronze|silver|gold|all`: run the streams without Dagster."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import SettingError
from lakehouse.settings import AVAILABLE_NOW, Settings, load_settings

#: Seconds between two looks at a running stream: a dead query is reported within this time.
POLL_SECONDS = 1.0

#: Seconds between two status lines on standard error.
STATUS_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse stream` to the application."""
    app.command("stream")(stream)


def stream(
    layer: Annotated[str, typer.Argument(help="bronze, silver, gold or all (one Spark application).")] = "all",
    bootstrap: Annotated[str | None, typer.Option(help="Kafka bootstrap servers, host:port[,host:port].")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of trades; default crypto.trades.")] = None,
    out: Annotated[str | None, typer.Option(help="Root of the Delta tables.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Root of the checkpoints.")] = None,
    starting_offsets: Annotated[
        str | None,
        typer.Option(
            "--starting-offsets",
            "--startingOffsets",
            help="earliest, latest or Kafka's JSON; only for a first start.",
        ),
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="available-now, or an interval such as '2 seconds'.")] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Stream Kafka to Delta until Ctrl-C, or up to the newest data with `--trigger available-now`."""
    from lakehouse.tables import LAYERS

    settings = load_settings(
        home=home,
        bootstrap_servers=bootstrap,
        topic_trades=topic,
        lake_uri=out,
        checkpoint_uri=checkpoint,
        starting_offsets=starting_offsets,
        trigger=trigger,
    )
    if layer != "all" and layer not in LAYERS:
        raise SettingError(f"layer {layer!r}", f"one of {', '.join(LAYERS)} or all")
    layers = LAYERS if layer == "all" else (layer,)
    if settings.trigger == AVAILABLE_NOW:
        _catch_up(settings, layers)
    else:
        _run(settings, layers)


def _catch_up(settings: Settings, layers: tuple[str, ...]) -> None:
    from lakehouse.streams.materialize import materialize

    for path, progress in materialize(settings, layers).items():
        print(f"{path}: {progress.rows} rows, {progress.rows_added} added, Delta version {progress.version}")


def _run(settings: Settings, layers: tuple[str, ...]) -> None:
    from lakehouse.streams.runner import StreamRunner

    stop = threading.Event()
    with StreamRunner(settings, layers) as runner:
        # Py4J takes SIGINT for itself when the Spark session starts, so our handlers are set after that.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        print(f"streaming {', '.join(layers)} to {settings.lake}; Ctrl-C stops", file=sys.stderr)
        waited = 0.0
        while not stop.wait(POLL_SECONDS):
            runner.check()
            waited += POLL_SECONDS
            if waited >= STATUS_SECONDS:
                waited = 0.0
                rows = {path: progress.rows for path, progress in runner.progress().items()}
                print(" ".join(f"{path}={count}" for path, count in rows.items()), file=sys.stderr)
    print("streams stopped", file=sys.stderr)
