"""Removes from the tables' logs what nobody needs any more, while the streams run.

A stream commits to a dozen tables every two seconds. Each commit, each look at a table and each poll of Spark's Delta
source lists the table's log, so that a batch would cost more with every batch before it: 10 ms for each 500 commits,
a dozen times a batch. Table properties alone cannot bound it: a log is history for Delta, but what a stream reads next
for us.
Guarantee: a version stays readable where a stream may still start from it, or where it belongs to a recent batch, which
is what the audit compares. While a stream is far behind its source, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lakehouse import lake
from lakehouse.ledger import QUERIES, Batch
from lakehouse.settings import Settings
from lakehouse.streams.progress import READS
from lakehouse.tables import Table

#: Batches of each query whose versions of all tables stay readable.
KEPT_BATCHES = 15


def clean_log(settings: Settings, table: Table, needed: int | None) -> None:
    """Remove commits older than `delta.logRetentionDuration` that a log checkpoint stands for and nobody needs.

    `needed` is the lowest version that has to stay readable, None where it is the newest.
    """
    there = lake.open_table(settings, table)
    # Only what lies before a checkpoint goes, and the newest one lies before all that is needed.
    if lake.checkpoint_version(there) <= (there.version() if needed is None else needed):
        there.cleanup_metadata()


def is_behind(recent: Mapping[str, Sequence[Batch]]) -> bool:
    """Whether a query has yet to read more of its source than the recent batches of the query that writes it."""
    for writer, query in pairwise(QUERIES):
        written = recent.get(writer, ())
        if query in recent and len(written) == KEPT_BATCHES:
            oldest = written[-1].version_of(READS[query].path)
            if recent[query][0].source_version < oldest:
                return True
    return False


def needed_versions(recent: Mapping[str, Sequence[Batch]]) -> dict[str, int]:
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
