"""Which files of a lake are really read, by whatever reads them: the file system's own access times say so.

Gap: a file counts with its whole size, although a reader of Parquet may take only some columns of it. A file that
is written and read again in the same time does not count.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

LOG = "_delta_log"


class Files(NamedTuple):
    """So many files, with so many bytes."""

    files: int = 0
    size: int = 0

    def plus(self, size: int) -> Files:
        """And one more."""
        return Files(self.files + 1, self.size + size)


class Reads(NamedTuple):
    """The files of one table: all of them, those that were read, and those of its log that were read."""

    there: Files = Files()
    read: Files = Files()
    log: Files = Files()


class AccessTimes:
    """From its making to `by_table`: the files below a lake that were read, of those that were there."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._sizes = {path: path.stat().st_size for path in lake.rglob("*") if path.is_file() and _counts(path)}
        for path in self._sizes:
            _forget(path)

    def by_table(self) -> dict[str, Reads]:
        """Table path → its reads."""
        found: dict[str, Reads] = {}
        for path, size in self._sizes.items():
            table = "/".join(path.relative_to(self._lake).parts[:2])
            reads, read = found.get(table, Reads()), path.stat().st_atime > 0
            if LOG in path.parts:
                found[table] = Reads(reads.there, reads.read, reads.log.plus(size) if read else reads.log)
            else:
                found[table] = Reads(reads.there.plus(size), reads.read.plus(size) if read else reads.read, reads.log)
        return found


def are_kept(folder: Path) -> bool:
    """Return whether the file system keeps access times: not if it is mounted `noatime`."""
    probe = folder / "probe"
    probe.write_bytes(b"probe")
    _forget(probe)
    probe.read_bytes()
    return probe.stat().st_atime > 0


def _counts(path: Path) -> bool:
    return path.suffix in (".parquet", ".json")


def _forget(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
