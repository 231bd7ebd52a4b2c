"""`lakehouse status`: print the state of a lake once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse status` to the application."""

    @app.command()
    def status(
        home: Annotated[
            Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
        ] = None,
    ) -> None:
        """Show rows, versions, lag, newest bars, last verdicts, and the work that runs or was stopped by hand."""
        from rich.console import Console

        from lakehouse.cli.homes import may_be_supervised, settings_as_started
        from lakehouse.status.snapshot import collect
        from lakehouse.status.view import render

        settings = settings_as_started(home)
        Console().print(render(collect(settings, may_be_supervised(settings))))
