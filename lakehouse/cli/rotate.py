"""`lakehouse rotate`: new sockets for the running ingest, without a break.

It reaches every ingest of the data folder, whoever hosts it (`lakehouse ingest`, a Dagster run, the demo): a request
file below `home`, at which they look every second (`lakehouse.ingest.rotation_requests`). In place of it, SIGUSR1 does
the same for one `lakehouse ingest`.
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

#: Seconds for the first ingest to answer: its look at the file, the new sockets, and the overlap on quiet symbols.
ANSWER_SECONDS = 45.0
#: Seconds for further ones, such as one per venue, behind the first.
FURTHER_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rotate")(rotate)


def rotate(
    home: Annotated[Path | None, typer.Option(help="Data folder. Default: the newest lake below .lakehouse.")] = None,
) -> None:
    """Change the sockets of the running ingest: new ones deliver before the old ones close."""
    from lakehouse.errors import RetriableError
    from lakehouse.ingest import rotation_requests

    settings = _settings(home)
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
        raise RetriableError(f"the old socket stays where the new one failed: {'; '.join(sorted(set(problems)))}")


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


def _settings(home: Path | None) -> Settings:
    """Settings of `home`, or of the newest lake; an ingest may run where there is no lake yet."""
    from lakehouse.cli.homes import settings_of
    from lakehouse.errors import TerminalError
    from lakehouse.settings import load_settings

    if home is not None:
        return load_settings(home=home)
    try:
        return settings_of(None)
    except TerminalError:
        return load_settings()
