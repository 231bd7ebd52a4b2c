"""One writer per table: exclusive locks that end with their process.

A `Lease` is held as long as a stream lives, a `Turn` for one batch or one slice of a rebuild.

The lock file lies beside a local lake, so that every process that writes there finds it; for a lake on an object store
it lies in `home`, and Dagster's run tags keep runs on different machines apart.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from lakehouse.errors import LeaseHeldError
from lakehouse.lake.file_lock import lock_file
from lakehouse.settings import Settings


class Lease:
    """The exclusive right to write the tables of some layers, held as file locks until `release` or the process's end.

    `holder` is the name under which a refused process shows this one to a person.
    """

    def __init__(self, settings: Settings, layers: tuple[str, ...], holder: str) -> None:
        self._folder = _folder(settings)
        self._layers = layers
        self._holder = holder
        self._files: list[IO[str]] = []

    def acquire(self) -> None:
        """Take the locks of all layers. If another process has one of them, take none and raise LeaseHeldError."""
        try:
            for layer in self._layers:
                self._files.append(self._lock(layer))
        except LeaseHeldError:
            self.release()
            raise

    def release(self) -> None:
        """Give the locks back. The files stay: removing one would let two processes lock different files."""
        while self._files:
            self._files.pop().close()

    def _lock(self, layer: str) -> IO[str]:
        def refusal(holder: str) -> LeaseHeldError:
            return LeaseHeldError(
                f"the {layer} tables in {self._folder.parent} are being written by {holder or 'another process'}",
                "one writer per table",
                "stop that one first, or let it go on",
            )

        return lock_file(self._folder / f"{layer}.lock", f"{self._holder} (pid {os.getpid()})", refusal)

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Turn:
    """A lock on a layer's tables for one short piece of work.

    A stream's batch, one slice of a rebuild of Gold, and a deletion of files take it in turn, in one or in several
    processes.

    While nobody holds it, every table of Gold is whole: it equals Silver at the version that Gold has processed. And no
    batch of the layer has files that are written and not yet committed.
    """

    def __init__(self, settings: Settings, layer: str) -> None:
        self._path = _folder(settings) / f"{layer}.turn"
        self._file: IO[str] | None = None

    def take(self, wait: bool = True) -> bool:
        """Take the lock and return True. If somebody else has it: wait for it, or return False if `wait` is false."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def give(self) -> None:
        """Give the lock back, if it is held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Turn:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give()


def _folder(settings: Settings) -> Path:
    root = settings.home.absolute() if "://" in settings.lake else Path(settings.lake)
    return root / "_leases"
