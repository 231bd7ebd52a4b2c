"""Tables that the API keeps open, each fixed at one version, for all threads.

Guarantee: a table that `newest` returns was its newest version at most STALE_SECONDS ago, and never changes, so that
all pages of an answer are of one state. The search for a new version runs beside the requests, in a thread of its own;
until it ends, they get the version before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import TerminalError
from lakehouse.lake import table_io
from lakehouse.serving.problems import Problem
from lakehouse.settings import Settings
from lakehouse.tables import Table

#: Seconds for which a version counts as the newest. A look costs two `stat` on a disk, a list on an object store.
LOOK_SECONDS = 0.5
#: Seconds after which a request waits for the look.
STALE_SECONDS = 1.5
#: Most versions of a table that are kept open: those of the pages that are being read.
MOST_VERSIONS = 4


class WouldBlockError(Exception):
    """The answer needs a disk, an object store or much time: work for a thread of the pool, not for the event loop."""


class Files(NamedTuple):
    """The files of a day: a digest of their names, which identifies their content, and their number of rows."""

    digest: str
    rows: int


@dataclass(frozen=True)
class Opened:
    """A table at one version. `days` has the key None if the table is not partitioned by day.

    `newest` is the latest time in `ts_event`, or in the last key column if there is no `ts_event`, by the statistics in
    the log; None if unknown.
    """

    table: Table
    version: int
    delta: DeltaTable
    table_id: str
    days: dict[dt.date | None, Files]
    newest: dt.datetime | None


@dataclass
class _Place:
    lock: threading.Lock = field(default_factory=threading.Lock)
    looked: float = float("-inf")
    newest: Opened | None = None
    look: Future[Opened] | None = None
    versions: OrderedDict[int, Opened] = field(default_factory=OrderedDict)


class OpenTables:
    """The tables of one lake."""

    def __init__(
        self, settings: Settings, prepare: Callable[[Opened, Opened], None] = lambda _before, _after: None
    ) -> None:
        """`prepare` is called with the version before and a new version, before requests get the new one."""
        self._settings = settings
        self._prepare = prepare
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()

    def newest(self, table: Table, wait: bool = True) -> Opened:
        """Return a table at its newest version. Raises WouldBlockError if it must be looked up and `wait` is False.

        Raises Problem if there is no such table (yet), or the lake cannot be read.
        """
        place = self._place(table)
        kept, age = place.newest, time.monotonic() - place.looked
        if kept is not None and age <= LOOK_SECONDS:
            return kept
        look = self._begin_look(table, place)
        if kept is not None and age <= STALE_SECONDS:
            return kept
        if not wait and not look.done():
            raise WouldBlockError
        return look.result()

    def close(self) -> None:
        """End the thread that looks for new versions."""
        self._looks.shutdown(wait=False, cancel_futures=True)

    def at(self, table: Table, version: int, wait: bool = True) -> Opened:
        """Return a table at a version. Raises Problem if that version is no longer kept, else as `newest`."""
        place = self._place(table)
        kept = place.versions.get(version)
        if kept is not None:
            return kept
        newest = self.newest(table, wait).version
        if version > newest and wait:  # another table may be newer already, and name it: the ledger its trades
            newest = self._begin_look(table, place).result().version
        if not 0 <= version <= newest:  # deltalake would search its way up to it
            raise Problem(
                "version-gone", f"version {version} of {table.path}; expected one up to {newest}, which is the newest"
            )
        if not wait:
            raise WouldBlockError
        with place.lock:
            try:
                return self._keep(table, place, version)
            except (DeltaError, TerminalError) as error:
                raise Problem(
                    "version-gone",
                    f"version {version} of {table.path} cannot be opened ({str(error).splitlines()[0][:160]}); "
                    "expected one whose log is still kept; ask again without a cursor to begin with the newest version",
                ) from None

    def delta(self, table: Table, version: int) -> DeltaTable:
        """Return deltalake's table at a version; a client's `Lake` opens its tables by this."""
        return self.at(table, version).delta

    def _place(self, table: Table) -> _Place:
        with self._lock:
            return self._places.setdefault(table.path, _Place())

    def _begin_look(self, table: Table, place: _Place) -> Future[Opened]:
        """Begin to look for a new version; return the look that has begun already if it is not over."""
        with self._lock:
            if place.look is None or place.look.done():
                place.look = self._looks.submit(self._renew, table, place)
            return place.look

    def _renew(self, table: Table, place: _Place) -> Opened:
        began = time.monotonic()
        with place.lock:
            found = self._look(table, place)
        if place.newest is not None and found is not place.newest:
            self._prepare(place.newest, found)
        place.newest, place.looked = found, began
        return found

    def _look(self, table: Table, place: _Place) -> Opened:
        try:
            newest = table_io.open_table(self._settings, table)  # this thread's, which reads on in the log
            kept = place.newest
            if kept is not None and kept.version == newest.version() and kept.table_id == str(newest.metadata().id):
                return kept
            if kept is not None and kept.table_id != str(newest.metadata().id):
                place.versions.clear()
            return self._keep(table, place, newest.version())
        except (DeltaError, TerminalError, OSError) as error:
            raise Problem(
                "lake-not-ready",
                f"{table.path} of the lake cannot be read ({str(error).splitlines()[0][:200]}); expected a lake that a "
                "stream has written; try again in some seconds",
                {"Retry-After": "2"},
            ) from None

    def _keep(self, table: Table, place: _Place, version: int) -> Opened:
        kept = place.versions.pop(version, None) or _opened(self._settings, table, version)
        place.versions[version] = kept
        while len(place.versions) > MOST_VERSIONS:
            place.versions.popitem(last=False)
        return kept


def _opened(settings: Settings, table: Table, version: int) -> Opened:
    delta = table_io.open_table(settings, table, version)
    files = pa.table(delta.get_add_actions(flatten=True))
    time_column = f"max.{'ts_event' if 'ts_event' in table.column_names else table.key[-1]}"
    newest = pc.max(files[time_column]).as_py() if files.num_rows and time_column in files.column_names else None
    if not isinstance(newest, dt.datetime):
        newest = None
    elif newest.tzinfo is None:
        newest = newest.replace(tzinfo=dt.UTC)
    return Opened(table, version, delta, str(delta.metadata().id), _days(table, files), newest)


def _days(table: Table, files: pa.Table) -> dict[dt.date | None, Files]:
    if not files.num_rows:
        return {}
    days: list[Any] = [None] * files.num_rows
    if table.partition_by and table.partition_by[0].endswith("_date"):
        days = files[f"partition.{table.partition_by[0]}"].cast(pa.date32()).to_pylist()
    names: dict[Any, list[Any]] = {}
    rows: dict[Any, int] = {}
    for day, name, count in zip(days, files["path"].to_pylist(), files["num_records"].to_pylist(), strict=True):
        names.setdefault(day, []).append(name)
        rows[day] = rows.get(day, 0) + (count or 0)
    return {
        day: Files(hashlib.blake2b("\n".join(sorted(of_day)).encode(), digest_size=16).hexdigest(), rows[day])
        for day, of_day in sorted(names.items(), key=lambda one: str(one[0]))
    }
