"""`lakehouse rotate`: new sockets for the running ingest, without interrupting the feeds.

It reaches every ingest of the data folder, whoever hosts it (`lakehouse ingest`, a Dagster run, the demo), by a request
file below `home` that each of them looks for every second (`lakehouse.ingest.rotation_requests`). SIGUSR1 does the same
for one `lakehouse ingest`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.ingest.rotation_requests import Answer
    from lakehouse.settings import Settings

#: Seconds within which the first ingest must answer: it looks at the file, opens the new sockets, and waits for the
#: overlap on quiet symbols.
ANSWER_SECONDS = 45.0
#: Seconds after the first answer within which further ingests, such as one per venue, must answer.
FURTHER_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add the command `lakehouse rotate` to the application."""
    app.command("rotate")(rotate)


def rotate(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the lakehouse. Default: the one that runs here, else the newest.")
    ] = None,
) -> None:
    """Change the sockets of the running ingest: new ones deliver before the old ones close."""
    from lakehouse.cli.homes import home_or_default
    from lakehouse.errors import RetriableError
    from lakehouse.ingest import rotation_requests
    from lakehouse.settings import load_settings

    settings = load_settings(home=home_or_default(home))
    if not rotation_requests.folder(settings).is_dir():
        raise RetriableError(
            f"no ingest has run in {settings.home} yet", "one that runs", "start `lakehouse ingest`, or give its --home"
        )
    print(f"lakehouse: {settings.home}; its ingest has {ANSWER_SECONDS:g} s to answer", file=sys.stderr)
    token = rotation_requests.ask(settings)
    try:
        found = _answers(settings, token)
    finally:
        rotation_requests.forget(settings, token)
    if not found:
        raise RetriableError(
            f"no ingest of {settings.home} answered within {ANSWER_SECONDS:g} s",
            "one that runs",
            "start `lakehouse ingest`, or give its --home",
        )
    for answer in found:
        done = answer.sockets - len(answer.problems)
        print(f"rotated {done} of {answer.sockets} sockets of {', '.join(answer.venues)}", file=sys.stderr)
    problems = [problem for answer in found for problem in answer.problems]
    if problems:
        raise RetriableError(f"the new socket failed, so the old one stays: {'; '.join(sorted(set(problems)))}")


def _answers(settings: Settings, token: str) -> list[Answer]:
    from lakehouse.ingest import rotation_requests

    deadline = time.monotonic() + ANSWER_SECONDS
    found: list[Answer] = []
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = rotation_requests.answers(settings, token)
        if len(now) > len(found):
            found, deadline = now, min(deadline, time.monotonic() + FURTHER_SECONDS)
    return found
