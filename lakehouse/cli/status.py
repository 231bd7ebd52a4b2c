"""`lakehouse status`: the state of a lake, printed once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def status(
        home: Annotated[
            Path | None, typer.Option(help="Folder of the lake. Default: the newest lake under .lakehouse.")
        ] = None,
    ) -> None:
        """Rows, versions, lag, latest bars and last check verdicts of a lake."""
        from rich.console import Console

        from lakehouse.cli.homes import settings_of
        from lakehouse.status import collect
        from lakehouse.status_view import render

        Console().print(render(collect(settings_of(home))))
