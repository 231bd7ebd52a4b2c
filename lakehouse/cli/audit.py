"""`lakehouse audit`: print the proof that nothing was lost and nothing counted twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import SettingError

#: Characters per line of the proof if standard output is no terminal.
PLAIN_WIDTH = 110
#: Seconds between two lines of progress if standard error is no terminal.
PROGRESS_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse audit` to the application."""
    app.command("audit")(audit)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show progress on standard error: a line that changes in place on a terminal, else one every PROGRESS_SECONDS."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with console.status("audit: counting") as status:
            yield lambda line: status.update(f"audit: {line}")
        return
    due = time.monotonic() + PROGRESS_SECONDS

    def say(line: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            console.print(f"audit: {line}", soft_wrap=True)

    yield say


def audit(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
    against_simulator: Annotated[
        bool,
        typer.Option("--against-simulator", help="Compare silver/trades with the simulated exchange's record."),
    ] = False,
    simulator_url: Annotated[
        str | None,
        typer.Option(help="http://HOST:PORT of the simulator. Default: the one of the lake's own start."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Open gaps, and recorded trades that are not in Silver yet, are faults.")
    ] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Recorded trades from before Silver's first are faults.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Prove on one consistent snapshot, even while streams run, that no trade was lost and none counted twice.

    Kafka's offsets = Bronze = Silver + duplicates + quarantined + feed events, by partition and by batch; Σ bars =
    Silver; gaps by state.

    The exit code is 0 if everything is exact, else 1.
    """
    from rich.console import Console

    from lakehouse.audit.printer import render
    from lakehouse.audit.report import to_json
    from lakehouse.audit.run import Options
    from lakehouse.audit.run import audit as prove
    from lakehouse.cli.homes import settings_as_started

    settings = settings_as_started(home)
    url = simulator_url or (settings.simulator_url if against_simulator else None)
    if against_simulator and url is None:
        raise SettingError(
            f"no simulator is known for {settings.home}", "the URL of a running one", "give --simulator-url"
        )
    with _progress() as progress:
        report = prove(settings, Options(url, strict, from_beginning, progress))
    if as_json:
        typer.echo(to_json(report))
    else:
        # A pipe or a file has no width of its own, and would get a terminal's 80 columns.
        Console(width=None if Console().is_terminal else PLAIN_WIDTH).print(render(report))
    if not report.exact:
        typer.echo(f"lakehouse: {report.home} is not exact: {report.faults[0]}", err=True)
        raise typer.Exit(1)
