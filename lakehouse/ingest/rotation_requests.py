"""Let another process ask a running ingest to replace its sockets: by a file below `home`, with answers beside it.

`lakehouse rotate` writes `home/ingest/rotate`. Every ingest service of this home looks at that file, whoever hosts it:
a command, a Dagster run, a container that mounts the folder. Each service that finds a new request replaces its sockets
and writes an answer of its own, so that several ingests (one per venue) all follow one request.

Limit: an ingest on another machine, without this folder, is not reached; it has SIGUSR1 and its own schedule.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from lakehouse.ingest.rotation import Rotation
from lakehouse.settings import Settings

_log = logging.getLogger(__name__)

#: Seconds between two looks at the file.
LOOK_SECONDS = 1.0
#: Most seconds for all sockets to have changed; more than a feed itself allows.
ROTATE_SECONDS = 40.0


class Answer(msgspec.Struct, frozen=True):
    """One ingest's answer to a rotation request: its venues, its number of sockets, and why rotations failed.

    `problems` is empty if every socket was replaced.
    """

    venues: list[str]
    sockets: int
    problems: list[str] = []


def folder(settings: Settings) -> Path:
    """Return the folder below the settings' `home` for requests and answers."""
    return settings.home.absolute() / "ingest"


def ask(settings: Settings) -> str:
    """Write a request to every ingest of this home to replace its sockets; return its token, for `answers`.

    Replaces an earlier request. Raises OSError if the file cannot be written.
    """
    token = uuid.uuid4().hex
    _write(folder(settings) / "rotate", token.encode())
    return token


def answers(settings: Settings, token: str) -> list[Answer]:
    """Return the ingests' answers to the rotation request with this token that have come so far."""
    return [
        msgspec.json.decode(path.read_bytes(), type=Answer)
        for path in sorted(folder(settings).glob(f"rotated-{token}-*.json"))
    ]


def forget(settings: Settings, token: str) -> None:
    """Delete the files with the ingests' answers to the rotation request with this token."""
    for path in folder(settings).glob(f"rotated-{token}-*.json"):
        path.unlink(missing_ok=True)


class RotationRequests:
    """A thread in the ingest that looks for requests, calls `rotate` and writes the answer.

    A request from before its start is ignored: another ingest has answered it, or nobody waits any more.
    """

    def __init__(self, settings: Settings, rotate: Callable[[], list[Rotation]], venues: Sequence[str]) -> None:
        self._settings = settings
        self._rotate = rotate
        self._venues = list(venues)
        self._file = folder(settings) / "rotate"
        self._seen = self._token()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rotation-requests", daemon=True)

    def start(self) -> None:
        with contextlib.suppress(OSError):  # by this folder `lakehouse rotate` sees that there is, or was, an ingest
            self._file.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end. Returns at once; a request that is being carried out gets no answer."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                token = self._token()
                if token != self._seen:
                    self._seen = token
                    if token:
                        self._follow(token)
            except OSError:
                # A folder that cannot be written costs the answer, not the ingest.
                _log.warning("no answer can be written to %s", self._file.parent, exc_info=True)

    def _follow(self, token: str) -> None:
        rotations = self._rotate()
        deadline = time.monotonic() + ROTATE_SECONDS
        for rotation in rotations:
            while not rotation.done.wait(0.1) and time.monotonic() < deadline:
                if self._stop.is_set():
                    return
        problems = [one.problem if one.done.is_set() else "not done in time" for one in rotations]
        answer = Answer(self._venues, len(rotations), [problem for problem in problems if problem])
        name = f"rotated-{token}-{os.getpid()}-{uuid.uuid4().hex[:6]}.json"
        _write(self._file.parent / name, msgspec.json.encode(answer))

    def _token(self) -> str:
        try:
            return self._file.read_text(encoding="ascii", errors="replace").strip()
        except OSError:  # not there, or the folder is away: no request
            return ""


def _write(path: Path, content: bytes) -> None:
    """Write a file as a whole: nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:6]}.partial")
    partial.write_bytes(content)
    partial.replace(path)
