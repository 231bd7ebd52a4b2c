"""What running streams do for the tables beside writing them: short logs, few files, no files that nobody reads.

Guarantee: an error of it (a full disk) is one line, stops no stream, and is tried again a minute later.
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

#: Seconds between two looks at logs and files, and between two looks for files that can go.
EVERY_SECONDS = 60.0
DELETE_SECONDS = 3_600.0

#: Files of a day of an ops table. `ledger` finds the newest batches by files of one query each, and a joined one is of
#: all; so they are joined seldom.
MOST_OPS_FILES = 300


class Upkeep:
    """Of the tables of some layers; the ops tables go with Gold."""

    def __init__(self, settings: Settings, layers: Sequence[str]) -> None:
        self._settings = settings
        kept = {*layers, *(("ops",) if "gold" in layers else ())}
        self._tables = [table for table in table_io.active_tables(settings) if table.layer in kept]
        self._due = time.monotonic() + EVERY_SECONDS
        self._delete_due = dict.fromkeys(sorted(kept), time.monotonic())
        self._failed: dict[str, str] = {}  #: what → why

    def idle(self) -> None:
        """To be called now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_SECONDS
            self.do()

    def do(self) -> None:
        """What is due, now."""
        give_back()
        self.write_checkpoints()
        self.attempt("what nobody needs", self._remove)
        for table in self._tables:
            if table.layer == "ops" and table.partition_by:
                self.attempt(f"the files of {table.path}", partial(compact, self._settings, table, MOST_OPS_FILES))
        self._report()

    def write_checkpoints(self) -> None:
        """Of the logs that have grown; it is never a part of a commit, which stands whatever becomes of it."""
        for table in self._tables:
            self.attempt(f"the log of {table.path}", partial(write_checkpoint, self._settings, table))

    def attempt(self, what: str, step: Callable[[], object]) -> None:
        """Do a step of upkeep. An error of it is told with those of the others, once a minute."""
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
        """A batch that waits to be committed has files that no log names. While one runs, deleting stays due."""
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
