"""The bars of one market that differ between two versions of their table, read once for all clients.

Gold writes the bars that change anew, into new files. So only the files are read that one of the versions has alone,
and of them only the row groups that may hold the market.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import pyarrow.compute as pc

from lakehouse.lake.unreadable import UnreadableVersionError
from lakehouse.market.symbols import MarketKey
from lakehouse.serving.key_locks import KeyLocks
from lakehouse.serving.opened import Opened
from lakehouse.sinks.gold_changes import rows_of

Row = dict[str, Any]

#: Answers that are kept: those of the last looks at some tens of markets.
MOST_KEPT = 100


class BarChanges:
    """Keeps the newest MOST_KEPT answers of `between`, for all threads.

    A thread that asks for what another thread is reading waits for that answer.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[object, list[Row]] = OrderedDict()
        self._reading = KeyLocks()
        self._lock = threading.Lock()

    def between(self, before: Opened, after: Opened, day: dt.date, market: MarketKey) -> list[Row]:
        """Return the rows of a UTC day in version `after` that differ from those in version `before`, by `bar_start`.

        If files of `before` are no longer kept, rows that have not changed are among them. Raises
        UnreadableVersionError if those of `after` are not.
        """
        key = (after.table.path, *((one.table_id, one.version) for one in (before, after)), day, market)
        with self._reading.hold(key):
            found = self._kept.get(key)
            if found is None:
                found = _changed(before, after, day, market)
                self._keep(key, found)
            return found

    def _keep(self, key: object, found: list[Row]) -> None:
        with self._lock:
            self._kept[key] = found
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


def changed_days(before: Opened, after: Opened, first: dt.date) -> list[dt.date]:
    """Return the UTC days from `first` on of which version `after` has other files than version `before`, in order."""
    days = ((day, files) for day, files in after.days.items() if before.days.get(day) != files)
    return sorted(day for day, _ in days if day is not None and day >= first)


def _changed(before: Opened, after: Opened, day: dt.date, market: MarketKey) -> list[Row]:
    old, new = _files(before, day), _files(after, day)
    rows = _rows(after, new - old, market)
    try:
        there = _rows(before, old - new, market) if rows else {}
    except UnreadableVersionError:
        there = {}
    return [row for start, row in sorted(rows.items()) if there.get(start) != row]


def _files(opened: Opened, day: dt.date) -> set[str]:
    return set(opened.delta.file_uris(file_pruning_predicate=[(opened.table.partition_by[0], "=", day)]))


def _rows(opened: Opened, paths: Collection[str], market: MarketKey) -> dict[dt.datetime, Row]:
    only = (pc.field("venue") == market[0]) & (pc.field("symbol") == market[1])
    parts = rows_of(opened.table, opened.delta, paths, only)
    return {row["bar_start"]: row for part in parts for row in part.to_pylist()}
