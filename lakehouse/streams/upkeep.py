"""Upkeep of the tables while streams write them: short logs, few files, no files that nobody reads.

Guarantee: an error of it (a full disk) is logged in one line and stops no stream; it is tried again a minute later.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lakehouse.errors import one_line
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import Batch, recent_batches
from lakehouse.lake.lease import Turn
from lakehouse.runtime.process_memory import give_back
from lakehouse.settings import Settings
from lakehouse.streams import log_retention
from lakehouse.streams.compaction import UPKEEP_ERRORS, compact
from lakehouse.streams.file_retention import delete_files
from lakehouse.streams.log_retention import clean_log, is_behind, named_versions, write_checkpoint

_log = logging.getLogger(__name__)

#: Seconds between two looks at the logs and files of all tables, and between two deletions of files in a layer.
EVERY_SECONDS = 60.0
DELETE_SECONDS = 3_600.0

#: Most files of a day of an ops table. The newest batches are found by files of one query each, and a joined file has
#: those of all; so files are joined seldom.
MOST_OPS_FILES = 300


class Upkeep:
    """Upkeep of the tables of some layers; the ops tables belong to Gold's."""

    def __init__(self, settings: Settings, layers: Sequence[str]) -> None:
        self._settings = settings
        kept = {*layers, *(("ops",) if "gold" in layers else ())}
        self._tables = [table for table in table_io.active_tables(settings) if table.layer in kept]
        self._due = time.monotonic() + EVERY_SECONDS
        self._delete_due = dict.fromkeys(sorted(kept), time.monotonic())
        self._failed: dict[str, str] = {}  #: what → why

    def idle(self) -> None:
        """Do the upkeep if it is due: every EVERY_SECONDS. Call it now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_SECONDS
            self.do()

    def do(self) -> None:
        """Do the upkeep now, but delete files only in layers in which that is due. Errors are logged, not raised."""
        give_back()
        self.write_checkpoints()
        self.attempt("what nobody needs", self._remove)
        for table in self._tables:
            if table.layer == "ops" and table.partition_by:
                self.attempt(f"the files of {table.path}", partial(compact, self._settings, table, MOST_OPS_FILES))
        self._report()

    def write_checkpoints(self) -> None:
        """Write checkpoints of the logs that have grown.

        That is never a part of a commit, so that a commit does not fail with it.
        """
        for table in self._tables:
            self.attempt(f"the log of {table.path}", partial(write_checkpoint, self._settings, table))

    def attempt(self, what: str, step: Callable[[], object]) -> None:
        """Do a step of upkeep. An error of it is remembered under `what`, and logged at the end of `do`."""
        try:
            step()
        except UPKEEP_ERRORS as error:
            self._failed[what] = one_line(error)

    def _report(self) -> None:
        if self._failed:
            what, why = next(iter(self._failed.items()))
            more = f" and of {len(self._failed) - 1} more" if len(self._failed) > 1 else ""
            _log.warning("upkeep of %s%s failed: %s; the streams go on, and it is tried again", what, more, why)
            self._failed = {}

    def _remove(self) -> None:
        recent = recent_batches(self._settings, log_retention.KEPT_BATCHES)
        if is_behind(recent):
            return
        named = named_versions(recent)
        for table in self._tables:
            needed = min(named.get(table.path, ()), default=None)
            self.attempt(f"the log of {table.path}", partial(clean_log, self._settings, table, needed))
        for layer in self._delete_due:
            if time.monotonic() >= self._delete_due[layer]:
                self._delete_between_batches(layer, recent, named)

    def _delete_between_batches(
        self, layer: str, recent: Mapping[str, Sequence[Batch]], named: Mapping[str, set[int]]
    ) -> None:
        """Delete the files of a layer that nobody needs, unless a batch of it runs: then that stays due.

        A running batch has files that no log names yet. `recent` are the recent batches of each query, `named` the
        versions that they name, by table path.
        """
        now = dt.datetime.now(dt.UTC)
        oldest = min((batch.committed_at for batches in recent.values() for batch in batches), default=now)
        hours = math.ceil((now - oldest) / dt.timedelta(hours=1))
        turn = Turn(self._settings, layer)
        if not turn.take(wait=False):
            return
        try:
            for table in self._tables:
                if table.layer == layer:
                    step = partial(delete_files, self._settings, table, hours, named.get(table.path, ()))
                    self.attempt(f"the files of {table.path}", step)
        finally:
            turn.give()
        self._delete_due[layer] = time.monotonic() + DELETE_SECONDS
