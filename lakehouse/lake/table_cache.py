"""Delta tables that a thread keeps open, so that each use reads only the new part of the log.

Guarantee: a table is at its newest version, also if it was deleted and made anew at the same place.
Limit: on an object store it is not noticed that a table was made anew or is gone; a live process must not outlive its
tables there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from deltalake import DeltaTable

#: Seconds for which a thread trusts that a table without a next commit file is at its newest version. A commit file is
#: there for far longer (`delta.logRetentionDuration`), so within this time it cannot have come and gone.
TRUSTED_SECONDS = 60.0

#: Number of commits that an open table takes in before it is opened anew. deltalake keeps what each commit brought as a
#: piece of its own, and goes through all pieces with each write: 10 ms at first, 75 ms after 400 commits.
MOST_MOVES = 50

#: Most tables that a thread keeps open: more than a lakehouse has.
MOST_OPENED = 32


class _Kept(NamedTuple):
    """A table that is kept open.

    `first` tells that its place has got another table, `opened` is its version then, `listed` when its log was last
    listed.
    """

    table: DeltaTable
    first: object
    opened: int
    listed: float


class _Opened(threading.local):
    """Newest tables of one thread by their place."""

    def __init__(self) -> None:
        self.tables: OrderedDict[str, _Kept] = OrderedDict()


_opened = _Opened()


def newest(uri: str) -> DeltaTable:
    """Open the table at a URI at its newest version. Raises deltalake's TableNotFoundError if there is no table.

    Reading a log from its beginning takes ten times as long as reading its new part, and a batch looks at a dozen
    tables.

    A table is opened anew after MOST_MOVES commits, even if this thread's own commits have kept it at its newest
    version.
    """
    log = Path(uri.removeprefix("file://")) / "_delta_log"
    first = _first_commit(log)
    kept = _opened.tables.pop(uri, None)
    now = time.monotonic()
    if kept is None or kept.first != first or _is_gone(uri, log) or kept.table.version() - kept.opened >= MOST_MOVES:
        table = DeltaTable(uri)
        kept = _Kept(table, first, table.version(), now)
    elif now - kept.listed > TRUSTED_SECONDS or _may_have(log, kept.table.version() + 1):
        kept.table.update_incremental()
        kept = kept._replace(listed=now)
    _opened.tables[uri] = kept
    if len(_opened.tables) > MOST_OPENED:
        _opened.tables.popitem(last=False)
    return kept.table


def forget(uri: str) -> None:
    """Close this thread's open table at a URI, so that `newest` opens it anew.

    For use after an error of a commit: it is not known whether the open table contains the commit.
    """
    _opened.tables.pop(uri, None)


def _is_gone(uri: str, log: Path) -> bool:
    """Return True if the log of a local table was deleted; deltalake does not notice it when it reads on."""
    return "://" not in uri.removeprefix("file://") and not log.is_dir()


def _may_have(log: Path, version: int) -> bool:
    """Return True if a log may have a commit; always on an object store, where a look costs as much as a list."""
    return not log.is_dir() or (log / f"{version:020}.json").exists()


def _first_commit(log: Path) -> object:
    """Return the identity of a local table, which changes if it is made anew at the same place; None if unknown.

    It is always None on an object store: there a live process must not outlive its tables.
    """
    with contextlib.suppress(OSError, ValueError):
        file = (log / f"{0:020}.json").stat()
        return file.st_ino, file.st_mtime_ns
    return None
