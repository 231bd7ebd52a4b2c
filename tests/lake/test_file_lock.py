"""The lock on a file: one holder, whom the next one reads, also where the file is removed in between."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

import pytest

from lakehouse.errors import LeaseHeldError
from lakehouse.lake.file_lock import lock_file


def test_the_next_one_reads_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with lock_file(path, "a holder with a long name", LeaseHeldError):
        pass
    with lock_file(path, "the first", LeaseHeldError), pytest.raises(LeaseHeldError, match=r"^the first$"):
        lock_file(path, "the second", LeaseHeldError)
    with lock_file(path, "the second", LeaseHeldError):
        assert path.read_text(encoding="utf-8") == "the second"


def test_a_file_that_was_removed_before_the_lock_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    original, calls = fcntl.flock, 0

    def removed_first(file: IO[str], operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            path.unlink()
        original(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with lock_file(path, "the first", LeaseHeldError):
        assert calls == 2
        with pytest.raises(LeaseHeldError, match="the first"):
            lock_file(path, "the second", LeaseHeldError)
