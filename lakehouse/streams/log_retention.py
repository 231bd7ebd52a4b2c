"""Removes from the tables' logs what nobody needs any more, while the streams run.

A stream commits to a dozen tables every two seconds. Each commit, each look at a table and each poll of Spark's Delta
source lists the table's log, so that a batch would cost more with every batch before it: 10 ms for each 500 commits,
a dozen times a batch. Table properties alone cannot bound it: a log is history for Delta, but what a stream reads next
for us.
Guarantee: a version stays readable where a stream may still start from it, or where it belongs to a recent batch, which
is what the audit compares. While a stream is far behind its source, nothing is removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from lakehouse import lake
from lakehouse.ledger import QUERIES, Batch, recent_batches
from lakehouse.settings import Settings
from lakehouse.streams.compaction import compact
from lakehouse.streams.progress import READS

#: Seconds between two looks.
EVERY_SECONDS = 60.0

#: Files of a day of an ops table. `ledger` finds the newest batches by files of one query each, and a joined one is of
#: all; so they are joined seldom.
MOST_OPS_FILES = 300

#: Batches of each query whose versions of all tables stay readable.
KEPT_BATCHES = 15


class LogRetention:
    """Keeps the logs of the tables of some layers short, and the days of the ops tables in few files.

    The ops tables go with Gold.
    """

    def __init__(self, settings: Settings, layers: Sequence[str]) -> None:
        self._settings = settings
        kept = {*layers, *(("ops",) if "gold" in layers else ())}
        self._tables = [table for table in lake.active_tables(settings) if table.layer in kept]
        self._ops = [table for table in self._tables if table.layer == "ops" and table.partition_by]
        self._due = time.monotonic() + EVERY_SECONDS

    def idle(self) -> None:
        """To be called now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_SECONDS
            self.clean()
            for table in self._ops:
                compact(self._settings, table, MOST_OPS_FILES)

    def clean(self) -> None:
        """Remove commits older than `delta.logRetentionDuration` that a log checkpoint stands for and nobody needs."""
        recent = recent_batches(self._settings, KEPT_BATCHES)
        if _is_behind(recent):
            return
        needed = _needed(recent)
        for table in self._tables:
            there = lake.open_table(self._settings, table)
            # Only what lies before a checkpoint goes, and the newest one lies before all that is needed.
            if lake.checkpoint_version(there) <= needed.get(table.path, there.version()):
                there.cleanup_metadata()


def _is_behind(recent: Mapping[str, Sequence[Batch]]) -> bool:
    """Whether a query has yet to read more of its source than the recent batches of the query that writes it."""
    for writer, query in pairwise(QUERIES):
        written = recent.get(writer, ())
        if query in recent and len(written) == KEPT_BATCHES:
            oldest = written[-1].version_of(READS[query].path)
            if recent[query][0].source_version < oldest:
                return True
    return False


def _needed(recent: Mapping[str, Sequence[Batch]]) -> dict[str, int]:
    """Table path → the lowest version that has to stay readable."""
    versions: list[tuple[str, int]] = []
    for query, batches in recent.items():
        for batch in batches:
            versions += batch.versions.items()
            if query in READS:
                versions.append((READS[query].path, batch.source_version))
    needed: dict[str, int] = {}
    for path, version in versions:
        needed[path] = min(version, needed.get(path, version))
    return needed
