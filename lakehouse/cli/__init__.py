"""The command line, `lakehouse …`. One module per command group; heavy imports stay inside the commands."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from importlib import metadata
from typing import Annotated

import typer

from lakehouse.errors import LakehouseError
from lakehouse.settings import refuse_unknown_variables

#: Modules of this package with commands, in the order of the help.
GROUPS = (
    *("demo", "ingest", "rotate", "simulate", "broker", "stream"),
    *("query", "export", "topics", "serve", "sink"),
    *("status", "check", "audit", "replay", "rebuild", "repair", "doctor"),
)


def build_app() -> typer.Typer:
    """Build the typer application with all commands."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="A streaming lakehouse for crypto trades that can prove its data.",
    )
    app.callback()(_options)
    for group in GROUPS:
        if importlib.util.find_spec(f"lakehouse.cli.{group}") is not None:
            importlib.import_module(f"lakehouse.cli.{group}").register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lakehouse {metadata.version('crypto-lakehouse')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. A LakehouseError is one line on stderr; any other is a bug and shows its stack trace."""
    # A background process of a non-interactive shell inherits SIGINT ignored, and Ctrl-C would never reach us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not {"--help", "--version"} & {*sys.argv[1:]}:  # which need no setting, and may be asked for help with one
            refuse_unknown_variables()
        build_app()()
    except LakehouseError as error:
        print(f"lakehouse: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
