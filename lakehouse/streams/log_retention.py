"""Upkeep of the tables' logs while the streams run: checkpoints are written, files that nobody needs are removed.

A stream commits to a dozen tables every two seconds. Each commit, each look at a table and each poll of Spark's Delta
source lists the table's log, so that a batch would cost more with every batch before it: 10 ms for each 500 commits,
a dozen times a batch. Table properties alone cannot bound it: for Delta a log is history, but streams here read their
next batch from it.
Guarantee: a version stays readable if a stream may still start from it, or if it belongs to a recent batch, since the
audit compares these. While a stream is far behind its source, nothing is removed. Both functions go by the checkpoints
that are there, not by `_last_checkpoint`, which is written after a checkpoint and may be missing or name an older one.
deltalake's own cleanup keeps files that are younger than a time, and cannot be told to keep a version.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pyarrow.parquet as pq

from lakehouse.lake import table_io
from lakehouse.lake.batch_log import Batch
from lakehouse.lake.table_log import CHECKPOINT, checkpoints, files_of, log_files
from lakehouse.settings import Settings
from lakehouse.streams.progress import READS
from lakehouse.tables import LAYERS, SILVER_CONTINUITY, SILVER_TRADES, Table

#: Number of batches of each query whose versions of all tables stay readable.
KEPT_BATCHES = 15


def write_checkpoint(settings: Settings, table: Table) -> None:
    """Write a log checkpoint if the newest is as many commits old as `delta.checkpointInterval` says."""
    there = table_io.open_table(settings, table)
    newest = max(checkpoints(log_files(table_io.table_uri(settings, table))), default=-1)
    if there.version() - newest >= int(table_io.PROPERTIES["delta.checkpointInterval"]):
        there.create_checkpoint()


def log_seconds(table: Table) -> int:
    """Return for how many seconds at least a commit stays in a table's log.

    A commit that stays costs: an append takes 10 ms with 500 commits in the log, and 27 ms with 1,500 (ADR 0010).
    """
    is_read_by_users = table.layer == "gold" or table in (SILVER_TRADES, SILVER_CONTINUITY)
    return table_io.HISTORY_SECONDS if is_read_by_users else table_io.LOG_SECONDS


def clean_log(settings: Settings, table: Table, needed: int | None) -> None:
    """Remove log files that a checkpoint stands for, that nobody needs, and that are old enough.

    `needed` is the lowest version that has to stay readable, None if it is the newest. Raises OSError or ArrowInvalid
    if the checkpoint cannot be read; nothing is removed then.
    """
    uri = table_io.table_uri(settings, table)
    files = log_files(uri)
    there = checkpoints(files)
    first = max((version for version in there if needed is None or version <= needed), default=-1)
    before = time.time() - log_seconds(table)
    old = [file for file in files if file.version < first and file.written < before]
    if not old:
        return
    store = files_of(uri)
    with store.open_input_file(f"_delta_log/{first:020}.{CHECKPOINT}") as checkpoint:
        pq.read_metadata(checkpoint)  # a file that a failing machine left empty stands for nothing
    for file in old:
        with contextlib.suppress(FileNotFoundError):
            store.delete_file(file.path)


def is_behind(recent: Mapping[str, Sequence[Batch]]) -> bool:
    """Return True if a query has yet to read its source up to the oldest recent batch of the query that writes it.

    `recent` has for each query its newest batches, the newest first, KEPT_BATCHES of them if there are so many.
    """
    for writer, query in pairwise(LAYERS):
        written = recent.get(writer, ())
        if query in recent and len(written) == KEPT_BATCHES:
            oldest = written[-1].version_of(READS[query].path)
            if recent[query][0].source_version < oldest:
                return True
    return False


def named_versions(recent: Mapping[str, Sequence[Batch]]) -> dict[str, set[int]]:
    """Return table path → the versions that recent batches have read or left. The lowest has to stay readable."""
    named: dict[str, set[int]] = {}
    for query, batches in recent.items():
        for batch in batches:
            for path, version in batch.versions.items():
                named.setdefault(path, set()).add(version)
            if query in READS:
                named.setdefault(READS[query].path, set()).add(batch.source_version)
    return named
