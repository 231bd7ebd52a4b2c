"""`lakehouse serve`: the data over HTTP."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse serve` to the application."""
    app.command("serve")(serve)


def serve(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port. Default: 8000.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File whose text is the key that clients send. Or set LAKEHOUSE_API_KEY.")
    ] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="Let other machines read without a key. Only beyond a loopback address.")
    ] = False,
) -> None:
    """Serve bars, trades, prices and certificates over HTTP, until Ctrl-C. No stream waits for it.

    Beyond 127.0.0.1 only with a key, or with --open.
    """
    from lakehouse.cli.homes import home_or_default, started_settings
    from lakehouse.serving.access import key_of_file, require_allowed
    from lakehouse.serving.server import serve as run
    from lakehouse.settings import load_settings

    settings = started_settings(load_settings(home=home_or_default(home)))
    key = None if api_key_file is None else key_of_file(api_key_file)
    chosen = {"serve_host": host, "serve_port": port, "api_key": load_settings(api_key=key).api_key}
    settings = settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})
    require_allowed(settings, is_open)
    with contextlib.suppress(KeyboardInterrupt):
        run(settings, lambda line: typer.echo(line, err=True), is_open)
