"""What stands in a stream's checkpoint: its generation, and where a batch begins and ends.

A checkpoint's generation is an id of ours, written when the checkpoint is first used. It is part of Delta's application
id, so that a new checkpoint, which counts its batches from 0 again, is never taken for the old one and skipped.
Source of the format: Spark writes `offsets/<batch>` before a batch runs: a version line, a metadata line, then one line
of JSON a source.
A checkpoint may begin in the middle of its source: the file `begin` holds the offset, in Spark's own words, before
which everything has been processed by other means.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.errors import TerminalError
from lakehouse.lake.lag import Offsets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


#: The file with the offset at which a checkpoint begins.
BEGIN = "begin"

#: A table's first commit, and nothing of it yet.
_CREATION = {"reservoirVersion": 0, "index": -1}


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint folder of one query; any file system that Hadoop knows."""

    spark: SparkSession
    uri: str

    def _path(self, name: str) -> tuple[Any, Any]:
        jvm: Any = self.spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{name}" if name else self.uri)
        configuration = self.spark._jsc.hadoopConfiguration()
        return path.getFileSystem(configuration), path

    def exists(self, name: str = "") -> bool:
        """Whether the checkpoint, or a file of it, is there."""
        file_system, path = self._path(name)
        return bool(file_system.exists(path))

    def read(self, name: str) -> str:
        """A small text file of the checkpoint."""
        file_system, path = self._path(name)
        stream = file_system.open(path)
        try:
            jvm: Any = self.spark._jvm
            return str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a small text file into the checkpoint: all of it, or, where the disk is full, nothing."""
        file_system, path = self._path(name)
        _, half = self._path(f".{name}.{uuid.uuid4().hex}.tmp")
        try:
            stream = file_system.create(half, True)
            try:
                stream.write(bytearray(text.encode()))
            finally:
                stream.close()
            if file_system.exists(path):
                file_system.delete(path, False)
            if not file_system.rename(half, path):
                raise OSError(f"cannot rename {half} to {path}")
        finally:
            file_system.delete(half, False)

    def is_new(self) -> bool:
        """True until Spark has planned a first batch here."""
        return not self.exists("offsets/0") and not self.exists("offsets")

    def pending_batch(self) -> int | None:
        """The batch that an earlier process planned and did not commit: Spark will run it again, with the same rows."""
        if not self.exists("offsets"):
            return None
        file_system, path = self._path("offsets")
        planned = [status.getPath().getName() for status in file_system.listStatus(path)]
        newest = max((int(name) for name in planned if name.isdigit()), default=None)
        return None if newest is None or self.exists(f"commits/{newest}") else newest

    def generation(self) -> str:
        """The generation of this checkpoint; made on the first call."""
        known = self.read("generation").strip() if self.exists("generation") else ""
        if not known:  # empty where a full disk kept it from an earlier version of ours
            known = uuid.uuid4().hex
            self.write("generation", known)
        return known

    def offset(self, batch_id: int) -> dict[str, Any] | None:
        """The source's offset at the end of a batch, None before the first.

        Where the checkpoint begins in the middle of its source, that is the offset before the first batch.
        """
        if batch_id < 0:
            return dict(json.loads(self.read(BEGIN))) if self.exists(BEGIN) else None
        if not self.exists(f"offsets/{batch_id}"):
            return None
        line = self.read(f"offsets/{batch_id}").strip().splitlines()[-1]
        return None if line == "-" else dict(json.loads(line))

    def begin_options(self) -> dict[str, str]:
        """Options for the Delta source of this checkpoint: where it begins, until the first batch is committed.

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
            file_system, path = self._path(BEGIN)
            file_system.delete(path, False)

    def begin_behind(self, version: int, aside: str) -> None:
        """Make this a new checkpoint of a Delta source that goes on behind a version, as if it had read all up to it.

        What is there is moved to a folder beside it, with `aside` behind its name. The version after this one has to
        exist when a query starts.
        """
        if not self.is_new():
            file_system, path = self._path("")
            _, target = Checkpoint(self.spark, f"{self.uri}-{aside}")._path("")
            if not file_system.rename(path, target):
                raise TerminalError(
                    f"checkpoint {self.uri} cannot be moved to {self.uri}-{aside}",
                    "a free name",
                    "move it away by hand",
                )
        self.write(BEGIN, json.dumps({"reservoirVersion": version + 1, "index": -1}))


def delta_position(offset: dict[str, Any] | None) -> dict[str, Any]:
    """A Delta source's offset in plain words.

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
    """Messages between two Kafka positions: topic → partition → count."""
    return {
        topic: {number: last - start.get(topic, {}).get(number, last) for number, last in partitions.items()}
        for topic, partitions in end.items()
    }
