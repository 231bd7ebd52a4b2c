"""What a micro-batch holds, asked of Spark's own plan of it: data files of a Delta source, offsets of a Kafka source.

Spark decides that and keeps it in the checkpoint; the rows themselves are read past the JVM (docs/adr/0008, 0009). The
answer is that of the physical plan that Spark itself would run, in its internal words: a new version of Spark has to
pass `tests/streams/test_streams.py` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lakehouse.broker.offset_ranges import OffsetRange

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def files_of(batch: DataFrame, root: str) -> list[str]:
    """Paths, relative to the table's root, of the data files of a micro-batch, in the order of Spark's scan."""
    found: dict[str, None] = {}
    base = _path(root).rstrip("/") + "/"
    for rdd in _scans(batch, "FileScanRDD"):
        for partition in _sequence(rdd.filePartitions()):
            for file in partition.files():  # a large file may be in several partitions
                path = _path(str(file.filePath().toString()))
                if not path.startswith(base):
                    raise AssertionError(f"found the file {path}; expected one below {base}")
                found[path.removeprefix(base)] = None
    return list(found)


def offsets_of(batch: DataFrame) -> list[OffsetRange]:
    """The offsets of a micro-batch of a Kafka source, by topic and partition; places without any are left out."""
    found = []
    for rdd in _scans(batch, "DataSourceRDD"):
        for partition in rdd.partitions():
            task = partition.inputPartition().get().offsetRange()
            place = task.topicPartition()
            found.append(
                OffsetRange(str(place.topic()), int(place.partition()), int(task.fromOffset()), int(task.untilOffset()))
            )
    return sorted(found)


def _scans(batch: DataFrame, kind: str) -> Iterator[Any]:
    """The RDDs of this class among those that a batch is read from."""
    waiting = [batch._jdf.queryExecution().toRdd()]
    while waiting:
        rdd = waiting.pop()
        if rdd.getClass().getSimpleName() == kind:
            yield rdd
        else:
            waiting.extend(dependency.rdd() for dependency in _sequence(rdd.dependencies()))


def _sequence(values: Any) -> Iterator[Any]:
    return (values.apply(number) for number in range(values.size()))


def _path(uri: str) -> str:
    """Without the scheme and its encoding; `s3a` and `s3` name the same object."""
    parts = urlsplit(uri)
    return unquote(f"{parts.netloc}{parts.path}") if parts.scheme else uri
