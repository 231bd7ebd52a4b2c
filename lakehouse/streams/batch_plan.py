"""The contents of a micro-batch: offset ranges of Kafka, or data files of a Delta table.

Spark decides them and writes them into the checkpoint before the batch runs; the rows themselves are read without the
JVM (docs/adr/0008, 0009). The plan is read from the checkpoint and from the table's log, without Spark
(docs/adr/0020). Both are formats on disk; `tests/streams/test_batch_plan.py` holds this reading of them to the rows
that Spark itself sees in a batch, so a new version of Spark or Delta has to pass it first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange
from lakehouse.lake import table_io
from lakehouse.lake.lag import Offsets
from lakehouse.lake.table_log import files_of
from lakehouse.settings import Settings
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.tables import Table
from lakehouse.transforms.arrow_numpy import Integers, integers
from lakehouse.transforms.time_ranges import TimeRange, micros_of

#: Most messages of a unit, except that a file is never divided: some 110 MB of memory for messages of 450 bytes.
UNIT_MESSAGES = 250_000

_MILLISECOND_US = 1_000


def kafka_ranges(checkpoint: Checkpoint, batch_id: int) -> list[OffsetRange]:
    """Return the offset ranges of a planned batch by topic and partition; a partition without messages is left out.

    A partition that is new begins at 0, as in Spark (4.2, `KafkaOffsetReaderAdmin`). Raises MessagesLostError if a
    partition is gone or ends before it begins: its topic was deleted.
    """
    start: Offsets = checkpoint.kafka_start() if batch_id == 0 else checkpoint.offset(batch_id - 1) or {}
    end: Offsets = checkpoint.offset(batch_id) or {}
    for topic, partitions in start.items():
        for partition, first in partitions.items():
            last = end.get(topic, {}).get(partition)
            if last is None or last < first:
                found = "nothing" if last is None else f"an end at {last}"
                raise MessagesLostError(
                    f"{found} in {topic}/{partition} of Kafka",
                    f"offset {first}, up to which it was read",
                    "the topic was deleted or made anew: see docs/reliability.md",
                )
    ranges = (
        OffsetRange(topic, int(partition), start.get(topic, {}).get(partition, 0), last)
        for topic, partitions in end.items()
        for partition, last in partitions.items()
    )
    return sorted(one for one in ranges if one.first < one.end)


@dataclass(frozen=True)
class _Position:
    """A Delta source's offset: everything before the file `index` (from 0) of what `version` added has been read.

    If `of_snapshot` is true, the files are those of the table at that version.
    """

    version: int
    index: int
    of_snapshot: bool


class Places(NamedTuple):
    """Partitions `first` to `last` of a Kafka topic."""

    topic: str
    first: int
    last: int


class DataFile(NamedTuple):
    """A data file of a table, at `path` below its root, with its number of rows; 0 if the log does not say.

    `places` has the Kafka partitions of the messages in a file of bronze/messages; None if the log does not say.
    """

    path: str
    rows: int
    places: Places | None = None


def paths_of(files: Iterable[DataFile]) -> tuple[str, ...]:
    """Return the paths of files."""
    return tuple(file.path for file in files)


def units(files: Sequence[DataFile], most: int) -> Iterator[list[DataFile]]:
    """Divide files, in their order, into units of up to `most` rows, or of one file."""
    unit: list[DataFile] = []
    rows = 0
    for file in files:
        if unit and rows + file.rows > most:
            yield unit
            unit, rows = [], 0
        unit.append(file)
        rows += file.rows
    if unit:
        yield unit


def by_places(files: Sequence[DataFile], most: int) -> list[list[DataFile]]:
    """Divide files of bronze/messages into lists, each in their order; no two have files of the same Kafka partition.

    Small lists are joined up to `most` rows. There is one list if the places of a file are unknown.
    """
    if any(file.places is None for file in files) or sum(file.rows for file in files) <= most:
        return [list(files)] if files else []
    lists: list[list[int]] = []  #: numbers of files, and the end of their partitions
    end: tuple[str, int] = ("", -1)
    for places, number in sorted((file.places or Places("", 0, 0), number) for number, file in enumerate(files)):
        if not lists or (places.topic, places.first) > end:
            lists.append([])
        lists[-1].append(number)
        end = max(end, (places.topic, places.last))
    joined: list[list[int]] = []
    rows = most
    for numbers in lists:
        more = sum(files[number].rows for number in numbers)
        if rows + more > most:
            joined.append([])
            rows = 0
        joined[-1] += numbers
        rows += more
    return [[files[number] for number in sorted(numbers)] for numbers in joined]


def delta_files(checkpoint: Checkpoint, batch_id: int, settings: Settings, table: Table) -> list[DataFile]:
    """Return the data files of a planned batch, in the log's order.

    Files of commits that changed no row (compaction) are left out, as Delta's source leaves them out. Raises OSError if
    the log no longer has a version of the batch.
    """
    end = _position(checkpoint.offset(batch_id))
    if end is None:
        return []
    start = _position(checkpoint.offset(batch_id - 1)) or _first(end)
    found: list[DataFile] = []
    if start.of_snapshot:
        found += files_at(settings, table, start.version)[start.index : end.index if end.of_snapshot else None]
        start = _Position(start.version + 1, 0, False)
    if end.of_snapshot:
        return found
    uri = table_io.table_uri(settings, table)
    for version in range(start.version, end.version + (end.index > 0)):
        added = _added(uri, version)
        first = start.index if version == start.version else 0
        found += added[first : end.index if version == end.version else None]
    return found


def _position(offset: dict[str, Any] | None) -> _Position | None:
    """Read an offset as Delta writes it: `index` is that of the last file read, -1 if none of this version is."""
    if offset is None:
        return None
    return _Position(int(offset["reservoirVersion"]), int(offset["index"]) + 1, bool(offset.get("isStartingVersion")))


def _first(end: _Position) -> _Position:
    """Return where the first batch of a checkpoint without a beginning starts: at a snapshot.

    If the batch went beyond it, Delta takes the newest snapshot before the batch's end (4.4, `DeltaSource.getBatch`).
    """
    return _Position(end.version if end.of_snapshot else end.version - 1, 0, True)


def _added(uri: str, version: int) -> list[DataFile]:
    """Return the files that a commit added with a change of rows, in its order."""
    with files_of(uri).open_input_file(f"_delta_log/{version:020}.json") as file:
        actions = [json.loads(line) for line in file.read().splitlines() if line.strip()]
    adds = (action["add"] for action in actions if "add" in action)
    return [_data_file(add) for add in adds if add["dataChange"]]


def _data_file(add: dict[str, Any]) -> DataFile:
    stats = json.loads(add.get("stats") or "{}")
    bounds = (stats.get(end, {}).get("partition") for end in ("minValues", "maxValues"))
    places = _places(add["partitionValues"].get("topic"), *bounds)
    return DataFile(unquote(add["path"]), int(stats.get("numRecords", 0)), places)


def rows_in(stats: str | None) -> int:
    """Return the number of rows of a file by its statistics in the log; 0 if they do not say."""
    return int(json.loads(stats or "{}").get("numRecords", 0))


def files_at(settings: Settings, table: Table, version: int) -> list[DataFile]:
    """Return the files of a table at a version in the order of Delta's `DeltaSourceSnapshot`: by time and path."""
    actions = pa.table(table_io.open_table(settings, table, version).get_add_actions(flatten=True))
    wanted = ("path", "num_records", "partition.topic", "min.partition", "max.partition")
    known = [name for name in wanted if name in actions.column_names]
    rows = actions.sort_by([("modification_time", "ascending"), ("path", "ascending")]).select(known).to_pylist()
    return [
        DataFile(unquote(row["path"]), row["num_records"] or 0, _places(*(row.get(name) for name in wanted[2:])))
        for row in rows
    ]


def _places(topic: str | None, first: int | None, last: int | None) -> Places | None:
    return None if topic is None or first is None or last is None else Places(topic, first, last)


def files_in(settings: Settings, table: Table, version: int, ranges: Sequence[TimeRange]) -> list[DataFile]:
    """Return the files of a table at a version that may have rows whose ts_event lies in one of some ranges.

    They are told by the statistics in the log, of which some writers cut a time to whole milliseconds. A file without
    them is among the files.
    """
    actions = pa.table(table_io.open_table(settings, table, version).get_add_actions(flatten=True))
    if {"min.ts_event", "max.ts_event"} <= set(actions.column_names):
        lows = _micros(actions.column("min.ts_event"), unknown=-(2**62))
        highs = _micros(actions.column("max.ts_event"), unknown=2**62)
        inside = np.zeros(actions.num_rows, np.bool_)
        for start, end in micros_of(ranges).tolist():
            inside |= (lows < end) & (highs + _MILLISECOND_US >= start)
        actions = actions.filter(pa.array(inside))
    found = actions.sort_by("path").select(["path", "num_records"]).to_pylist()
    return [DataFile(unquote(one["path"]), one["num_records"] or 0) for one in found]


def _micros(times: Any, unknown: int) -> Integers:
    return integers(pc.fill_null(times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()), unknown))
