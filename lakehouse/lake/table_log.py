"""The log of a Delta table as files: which checkpoints and commits there are, and whether a commit of ours stands.

Guarantee: `Commit.find` answers from the log itself, whichever error the commit raised: an id in its log entry
identifies a commit. It raises an error if the log cannot be read or lacks an entry. Callers ask it before they delete
files and before they try a commit again.
Source of the names and entries: Delta protocol, "Delta Log Entries" and "Checkpoints".
Gap: on an object store a request that timed out may still arrive after `find` has looked. So files there are left alone
unless the commit was refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler

from lakehouse.lake import table_cache

#: deltalake would write a log checkpoint after each 50th commit, as a part of it, and raise an error if that fails,
#: though the commit stands. `streams/upkeep.py` writes checkpoints and removes old logs.
NO_HOOK = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

#: The field of a log entry's `commitInfo` by which a commit is known again.
ID = "lakehouseCommit"

#: Files that belong to a version: commits, checkpoints, Spark's checksums, and what a killed writer of any of these
#: leaves (`.<version>.json.<uuid>.tmp` of Hadoop's, `<version>.json#1` of deltalake's).
_OF_VERSION = re.compile(r"\.?(\d{20})\.(.+)")

#: The kinds of files that count: a commit, and a checkpoint in one file (nobody here writes others).
COMMIT, CHECKPOINT = "json", "checkpoint.parquet"


def files_of(uri: str) -> pa_fs.FileSystem:
    """Return the folder of a table, local or on an object store, as an Arrow file system; paths are relative to it."""
    if not is_remote(uri):
        return pa_fs.SubTreeFileSystem(uri, pa_fs.LocalFileSystem())
    return pa_fs.PyFileSystem(DeltaStorageHandler(uri))


def is_remote(uri: str) -> bool:
    """Return True if a table is on an object store, where a request may arrive after its sender has given it up."""
    return "://" in uri


class LogFile(NamedTuple):
    """A file of a version, at `path` below the table.

    `written` is in seconds since the epoch, infinite if the store does not say.
    """

    path: str
    version: int
    kind: str  #: the part of its name after the version; COMMIT and CHECKPOINT only of whole files
    written: float


def log_files(uri: str) -> list[LogFile]:
    """List the files of a table's log that belong to one version, by version. Raises OSError if it cannot be read."""
    found: list[LogFile] = []
    for info in files_of(uri).get_file_info(pa_fs.FileSelector("_delta_log")):
        match = _OF_VERSION.fullmatch(info.base_name)
        if match and info.type == pa_fs.FileType.File:
            kind = f".{match[2]}" if info.base_name.startswith(".") else match[2]
            found.append(
                LogFile(
                    f"_delta_log/{info.base_name}",
                    int(match[1]),
                    kind,
                    info.mtime_ns / 1e9 if info.mtime_ns else math.inf,
                )
            )
    return sorted(found, key=lambda file: (file.version, file.kind))


def checkpoints(files: list[LogFile]) -> list[int]:
    """Return the versions that have a checkpoint among a log's files.

    The file `_last_checkpoint` is not read: it may be missing, or name an older one.
    """
    return [file.version for file in files if file.kind == CHECKPOINT]


class Found(NamedTuple):
    """Answer of a table's log about a commit of ours and about others' commits since its base version.

    `stands`: the commit is in the log; then only others' commits before it count. `maintained`: others have committed,
    and only maintenance, which leaves rows and transaction ids as they were. `moved`: paths of the files that others
    have taken out of the table.
    """

    stands: bool
    maintained: bool
    moved: frozenset[str]


class Commit:
    """One commit through deltalake to the table at a URI, identified in the table's log by a random id.

    `version` is the table's version on which it is based. `retries`: how often deltalake itself tries again after a
    conflict. `properties` go to the call that commits.
    """

    def __init__(self, uri: str, version: int, transaction: Transaction | None = None, retries: int = 0) -> None:
        self._uri, self._version = uri, version
        self._id = uuid.uuid4().hex
        self.properties = CommitProperties(
            custom_metadata={ID: self._id},
            app_transactions=[] if transaction is None else [transaction],
            max_commit_retries=retries,
        )

    def find(self) -> Found:
        """Look for this commit among those after its base version.

        Raises OSError if the log cannot be read, ValueError if it lacks a commit.
        """
        files = files_of(self._uri)
        since = {file.version: file for file in log_files(self._uri) if file.kind == COMMIT}
        newest = max(since, default=-1)
        maintained, moved = False, set[str]()
        for version in range(self._version + 1, newest + 1):
            if version not in since:
                raise ValueError(f"no commit {version} in the log of {self._uri}")
            with files.open_input_file(since[version].path) as file:
                actions = [json.loads(line) for line in file.read().splitlines() if line.strip()]
            if any(action.get("commitInfo", {}).get(ID) == self._id for action in actions):
                return Found(True, maintained, frozenset(moved))
            is_first = version == self._version + 1
            maintained = (is_first or maintained) and all(self._is_maintenance(action) for action in actions)
            moved |= {action["remove"]["path"] for action in actions if "remove" in action}
        return Found(False, maintained, frozenset(moved))

    @contextlib.contextmanager
    def certain(self) -> Iterator[None]:
        """Wrap the call that commits: drop an error that it raises if the log shows that the commit stands."""
        try:
            yield
        except Exception as error:
            if not self.found_after(error).stands:
                raise
            table_cache.forget(self._uri)

    def found_after(self, error: Exception) -> Found:
        """Return `find()` after the commit has raised `error`; raise `error` if the log cannot be read."""
        try:
            return self.find()
        except (OSError, ValueError, DeltaError) as unread:
            raise error from unread

    def _is_maintenance(self, action: dict[str, Any]) -> bool:
        """Return True if an action of another commit leaves rows, columns and transaction ids as they were."""
        for name in ("add", "remove"):
            if name in action:
                return action[name].get("dataChange") is False
        if "metaData" in action:  # the table's properties, name or description, if its columns are the same
            ours, theirs = DeltaTable(self._uri, version=self._version), action["metaData"]
            return bool(
                theirs["id"] == str(ours.metadata().id)
                and json.loads(theirs["schemaString"]) == json.loads(ours.schema().to_json())
                and theirs["partitionColumns"] == ours.metadata().partition_columns
            )
        return set(action) <= {"commitInfo"}
