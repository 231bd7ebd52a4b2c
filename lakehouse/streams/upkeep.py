"""What running streams do for the tables beside writing them: short logs, few files, no files that nobody reads.

Bronze's and Silver's rows are what streams read, by the files of each commit; nothing of bronze/messages and
silver/trades is touched here but their logs.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Mapping, Sequence

from lakehouse import lake
from lakehouse.ledger import Batch, recent_batches
from lakehouse.settings import Settings
from lakehouse.streams import log_retention
from lakehouse.streams.compaction import compact
from lakehouse.streams.lease import Turn
from lakehouse.streams.log_retention import clean_log, is_behind, needed_versions
from lakehouse.streams.native_memory import give_back
from lakehouse.streams.progress import READS

#: Seconds between two looks at logs and files, and between two looks for files that can go.
EVERY_SECONDS = 60.0
VACUUM_SECONDS = 3_600.0

#: Hours for which a file that a table no longer has stays at least: longer than any query runs.
KEPT_HOURS = 1

#: Files of a day of an ops table. `ledger` finds the newest batches by files of one query each, and a joined one is of
#: all; so they are joined seldom.
MOST_OPS_FILES = 300


class Upkeep:
    """Of the tables of some layers; the ops tables go with Gold."""

    def __init__(self, settings: Settings, layers: Sequence[str]) -> None:
        self._settings = settings
        kept = {*layers, *(("ops",) if "gold" in layers else ())}
        self._tables = [table for table in lake.active_tables(settings) if table.layer in kept]
        self._due = time.monotonic() + EVERY_SECONDS
        self._vacuum_due = time.monotonic()

    def idle(self) -> None:
        """To be called now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_SECONDS
            self.do()

    def do(self) -> None:
        """What is due, now."""
        give_back()
        recent = recent_batches(self._settings, log_retention.KEPT_BATCHES)
        if not is_behind(recent):
            needed = needed_versions(recent)
            for table in self._tables:
                clean_log(self._settings, table, needed.get(table.path))
            if time.monotonic() >= self._vacuum_due:
                self._vacuum_between_batches(recent)
        for table in self._tables:
            if table.layer == "ops" and table.partition_by:
                compact(self._settings, table, MOST_OPS_FILES)

    def _vacuum_between_batches(self, recent: Mapping[str, Sequence[Batch]]) -> None:
        """Its commits would let one of Gold's fail; while Gold is written it is not done, and stays due."""
        turn = Turn(self._settings)
        if not turn.take(wait=False):
            return
        try:
            self._vacuum(recent)
        finally:
            turn.give()
        self._vacuum_due = time.monotonic() + VACUUM_SECONDS

    def _vacuum(self, recent: Mapping[str, Sequence[Batch]]) -> None:
        """Delete files that no version of a recent batch, and none of the last KEPT_HOURS, has."""
        now = dt.datetime.now(dt.UTC)
        oldest = min((batch.committed_at for batches in recent.values() for batch in batches), default=now)
        hours = max(KEPT_HOURS, math.ceil((now - oldest) / dt.timedelta(hours=1)))
        for table in self._tables:
            if table not in READS.values():
                there = lake.open_table(self._settings, table)
                there.vacuum(hours, dry_run=False, enforce_retention_duration=False)
