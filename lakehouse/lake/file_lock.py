"""An exclusive lock on a file that names its holder. The kernel releases it when the holder's process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from lakehouse.errors import LeaseHeldError


def lock_file(path: Path, holder: str, refusal: Callable[[str], LeaseHeldError]) -> IO[str]:
    """Lock the file at `path`, write `holder` into it and return it. The lock lasts until the file is closed.

    A missing file is made. If another process has the lock, raises the error that `refusal` makes from what that
    process wrote (empty if it wrote nothing). Raises OSError if the file cannot be opened.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            present = file.read().strip()
            file.close()
            raise refusal(present) from None
        if _is_at(path, file):
            break
        # `lakehouse reset` removed the file between our open and our lock: what we hold guards nothing.
        file.close()
    with contextlib.suppress(OSError):  # the name is for people; on a full disk the lock holds without it
        file.truncate(0)
        os.write(file.fileno(), holder.encode())
    return file


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
