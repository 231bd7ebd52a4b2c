"""`lakehouse check`: evaluate every check now, record and print the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse check` to the application."""

    @app.command()
    def check(
        home: Annotated[
            Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
        ] = None,
        recent: Annotated[
            bool,
            typer.Option(
                "--recent",
                help="Check only what came or changed in the last minutes; after a failure, as much as showed it.",
            ),
        ] = False,
    ) -> None:
        """Run all checks and record their verdicts in ops/checks. Exit code 1 if one fails."""
        from rich.console import Console

        from lakehouse.cli.homes import settings_as_started
        from lakehouse.quality.checks import run_checks
        from lakehouse.status.view import render_results

        settings = settings_as_started(home)
        results = run_checks(settings, recent=recent)
        Console().print(render_results(results, f"Checks of {settings.home}"))
        failed = sum(not result.passed for _, result in results)
        if failed:
            typer.echo(f"lakehouse: {failed} of {len(results)} checks failed", err=True)
            raise typer.Exit(1)
