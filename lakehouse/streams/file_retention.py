"""Deletion of data files that belong to no version of a table which anybody may still read.

There are three kinds: files that a table has lost (Gold's rows change, days are joined, a rebuild replaces the whole),
files of a writer that was killed before its commit, and files of a commit that failed.
Guarantee: a file stays if a version that a recent batch names has it, and at least KEPT_HOURS (on an object store
KEPT_HOURS_REMOTE) after it was lost or written. No file goes that a running writer has yet to commit: files are deleted
between the batches of the table's layer (`Turn`), and a rebuild has the layer's lease. A file that was lost after the
oldest recent batch stays by the time of its removal in the log; once checkpoints may have dropped that entry, the
versions that recent batches name are asked for their files.
deltalake's `vacuum` in its full mode says which files can go. It is told to delete nothing itself, since it would
commit the beginning and the end of its work, and each commit may be in the way of a writer.
Gap: on an object store, a writer on another machine shares neither lease nor turn with this one; so a file that no
commit names stays a day there.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator

import pyarrow.fs as pa_fs

from lakehouse.lake import table_io
from lakehouse.lake.table_log import files_of, is_remote
from lakehouse.settings import Settings
from lakehouse.streams.progress import READS
from lakehouse.tables import Table

#: Least hours for which a file stays: longer than any query runs; on an object store also longer than any batch,
#: rebuild or joining of files, which may run on another machine.
KEPT_HOURS, KEPT_HOURS_REMOTE = 1, 24

#: Hours for which a checkpoint names a file that the table has lost (`delta.deletedFileRetentionDuration`).
REMEMBERED_HOURS = 6

#: End of a file's name while deltalake's local store writes it (object_store, `staged_upload_path`).
_STAGED = re.compile(r"#[0-9]+$")


def delete_files(settings: Settings, table: Table, hours: int, named: Collection[int]) -> int:
    """Delete the files of a table that nobody can ask for, and return their number.

    `hours` is the age of the oldest recent batch, rounded up; `named` are the versions of the table that recent batches
    name. Call it between two batches of the layer. Raises DeltaError or OSError; files that are left then go the next
    time.
    """
    uri = table_io.table_uri(settings, table)
    hours = max(KEPT_HOURS_REMOTE if is_remote(uri) else KEPT_HOURS, hours)
    keep = sorted(_kept(table, named)) if hours >= REMEMBERED_HOURS else []
    there = table_io.open_table(settings, table)
    paths = there.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True, keep_versions=keep or None)
    files = files_of(uri)
    paths += sorted({*_unlisted(files, time.time() - hours * 3_600)} - {*paths})
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            files.delete_file(path)
    return len(paths)


def _unlisted(files: pa_fs.FileSystem, before: float) -> Iterator[str]:
    """Yield the paths of the files that `vacuum` never lists and that were written before a time (epoch seconds).

    They are `NAME#1`, which deltalake's local store leaves if it is killed while it writes, hidden files in the table's
    root, and the contents of Hadoop's folder `_temporary`. No version names any of them: Delta's logs name data files
    only, whose names begin with `part-` here. Other folders that begin with `_` stay.
    """
    for info in files.get_file_info(pa_fs.FileSelector("", recursive=True)):
        first, _, rest = info.path.partition("/")
        is_hidden = first.startswith(".") and not rest
        is_staged = not first.startswith("_") and _STAGED.search(info.path) is not None
        is_old = info.type == pa_fs.FileType.File and 0 < (info.mtime_ns or 0) / 1e9 < before
        if is_old and (is_hidden or is_staged or (first == "_temporary" and rest)):
            yield info.path


def _kept(table: Table, named: Collection[int]) -> set[int]:
    """Return the versions whose files `vacuum` must keep: few, since each takes 0.3 s if it has 50,000 files.

    A table that streams read only grows between two rebuilds, so its last version has the files of the others; nobody
    compares a version from before a rebuild with one from after it (`audit/snapshot.py`).
    """
    if table in READS.values() and named:
        return {min(named), max(named)}
    return set(named)
