"""A stream's checkpoint folder: its generation, and where each batch begins and ends. No JVM.

A checkpoint's generation is an id of ours, written when the checkpoint is first used. It is part of Delta's application
id, so that a new checkpoint, which counts its batches from 0 again, is never taken for the old one and skipped.
Source of the format: Spark's `OffsetSeqLog` writes `offsets/<batch>` before a batch runs: a version line, a metadata
line, then one line of JSON a source. Its Kafka source writes the offsets before the first batch to `sources/0/0`.
A checkpoint may begin in the middle of its source: the file `begin` holds the offset, in Spark's own words, before
which everything has been processed by other means.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.fs as pa_fs

from lakehouse.errors import TerminalError
from lakehouse.lake.lag import Offsets

#: The file with the offset at which a checkpoint begins.
BEGIN = "begin"

#: The offset before a table's first commit.
_CREATION = {"reservoirVersion": 0, "index": -1}


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint folder of one query, at a local path or at a URI of a file system that Arrow knows."""

    uri: str

    @cached_property
    def _place(self) -> tuple[pa_fs.FileSystem, str]:
        return _place_of(self.uri)

    @property
    def _files(self) -> pa_fs.FileSystem:
        return self._place[0]

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}" if name else self._place[1]

    def exists(self, name: str = "") -> bool:
        """Return True if the checkpoint, or a file or folder of it, is there."""
        return bool(self._files.get_file_info(self._path(name)).type != pa_fs.FileType.NotFound)

    def read(self, name: str) -> str:
        """Read a small text file of the checkpoint. Raises FileNotFoundError if it is not there."""
        with self._files.open_input_file(self._path(name)) as file:
            return bytes(file.read()).decode()

    def write(self, name: str, text: str) -> None:
        """Write a small text file into the checkpoint: all of it or, if the disk is full, nothing."""
        path = self._path(name)
        folder, _, base = path.rpartition("/")
        half = f"{folder}/.{base}.{uuid.uuid4().hex}.tmp"
        self._files.create_dir(folder)
        try:
            with self._files.open_output_stream(half) as file:
                file.write(text.encode())
            self._files.move(half, path)
        except OSError:
            if self._files.get_file_info(half).type != pa_fs.FileType.NotFound:
                self._files.delete_file(half)
            raise

    def is_new(self) -> bool:
        """Return True until Spark has planned a first batch here."""
        return not self.exists("offsets")

    def pending_batch(self) -> int | None:
        """Return the batch that an earlier process planned and did not commit, None if there is none.

        Spark will run it again, with the same rows.
        """
        if not self.exists("offsets"):
            return None
        planned = self._files.get_file_info(pa_fs.FileSelector(self._path("offsets")))
        newest = max((int(file.base_name) for file in planned if file.base_name.isdigit()), default=None)
        return None if newest is None or self.exists(f"commits/{newest}") else newest

    def generation(self) -> str:
        """Return the generation of this checkpoint; the first call makes it."""
        known = self.read("generation").strip() if self.exists("generation") else ""
        if not known:  # empty if a full disk kept it from an earlier version of ours
            known = uuid.uuid4().hex
            self.write("generation", known)
        return known

    def offset(self, batch_id: int) -> dict[str, Any] | None:
        """Return the source's offset at the end of a batch, None before the first.

        If the checkpoint begins in the middle of its source, that is the offset before the first batch.
        """
        if batch_id < 0:
            return dict(json.loads(self.read(BEGIN))) if self.exists(BEGIN) else None
        text = self._planned.get(batch_id)
        if text is None:
            try:
                text = self.read(f"offsets/{batch_id}")
            except FileNotFoundError:
                return None
            # Spark never changes a plan; a batch asks for its own and for the one before, again and again.
            for old in [one for one in self._planned if abs(one - batch_id) > 1]:
                del self._planned[old]
            self._planned[batch_id] = text
        line = text.strip().splitlines()[-1]
        return None if line == "-" else dict(json.loads(line))

    @cached_property
    def _planned(self) -> dict[int, str]:
        """Batch → the text of its plan, of the newest batches that were asked for."""
        return {}

    def kafka_start(self) -> Offsets:
        """Return the Kafka offsets before the first batch, as Spark resolved `startingOffsets`.

        Spark's file begins with a zero byte and a version line (Spark 4.2, `KafkaSourceInitialOffsetWriter`).
        """
        found: Offsets = json.loads(self.read("sources/0/0").lstrip("\0").partition("\n")[2])
        return found

    def begin_options(self) -> dict[str, str]:
        """Return the options for the Delta source of this checkpoint: where it begins, if that is not a snapshot.

        Give them at every start: Delta looks at them only as long as the checkpoint has no batch of its own.
        """
        begin = self.offset(-1)
        return {} if begin is None else {"startingVersion": str(begin["reservoirVersion"])}

    def begin_at_creation(self, version: int) -> None:
        """Begin a new checkpoint of a Delta source, whose table is at `version`, at the table's first commit.

        An empty table has no snapshot worth the Spark jobs that read it. If the table has got commits before a first
        batch was planned, the snapshot is read: the log may no longer go back to the first.
        """
        if not self.is_new():
            return
        begin = self.offset(-1)
        if version == 0 and begin is None:
            self.write(BEGIN, json.dumps(_CREATION))
        elif version > 0 and begin == _CREATION:
            self._files.delete_file(self._path(BEGIN))

    def begin_behind(self, version: int, aside: str) -> None:
        """Make this a new checkpoint of a Delta source that goes on after a version, as if it had read all up to it.

        The files that it has are moved to a folder beside it, whose name ends with `aside`. The version after this one
        must exist when a query starts. Raises TerminalError if that folder exists.
        """
        if not self.is_new():
            self._set_aside(f"{self.uri}-{aside}")
        self.write(BEGIN, json.dumps({"reservoirVersion": version + 1, "index": -1}))

    def _set_aside(self, uri: str) -> None:
        if Checkpoint(uri).exists():
            raise TerminalError(
                f"checkpoint {self.uri} cannot be moved to {uri}, which exists", "a free name", "move it away by hand"
            )
        source, target = self._path(""), _place_of(uri)[1]
        if isinstance(self._files, pa_fs.LocalFileSystem):
            self._files.move(source, target)
            return
        # An object store cannot move a folder.
        pa_fs.copy_files(source, target, source_filesystem=self._files, destination_filesystem=self._files)
        self._files.delete_dir(source)


def _place_of(uri: str) -> tuple[pa_fs.FileSystem, str]:
    if "://" not in uri:
        return pa_fs.LocalFileSystem(), uri.removeprefix("file:")
    # s3a is Hadoop's name for the same store.
    files, path = pa_fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    return files, path


def delta_position(offset: dict[str, Any] | None) -> dict[str, Any]:
    """Return a Delta source's offset in plain words.

    `version` is the last version of which anything has been read (-1: nothing yet); `complete` says that it has been
    read whole. Spark's `{"reservoirVersion": 7, "index": -1}` means all of version 6 and nothing of 7 yet.
    """
    if offset is None:
        return {"version": -1, "complete": True}
    version, index = int(offset["reservoirVersion"]), int(offset["index"])
    if index < 0:
        return {"version": version - 1, "complete": True}
    return {"version": version, "complete": False}


def kafka_rows_by_partition(start: Offsets, end: Offsets) -> Offsets:
    """Count the messages between two Kafka positions: topic → partition → count."""
    return {
        topic: {number: last - start.get(topic, {}).get(number, last) for number, last in partitions.items()}
        for topic, partitions in end.items()
    }
