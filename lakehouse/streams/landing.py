"""The work that lands messages: a unit of Kafka's offset ranges → new data files of bronze/messages.

Each message of the ranges is in the files once, and each offset has to be there (`broker.offset_ranges`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import OffsetRange
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.batch_plan import UNIT_MESSAGES, equal_parts
from lakehouse.streams.data_files import new_files
from lakehouse.streams.kafka_rows import read_rows
from lakehouse.tables import BRONZE_MESSAGES


@dataclass(frozen=True)
class LandUnit:
    """Offset ranges to land: from the Kafka at `bootstrap` into the table at `uri`."""

    bootstrap: str
    uri: str
    ranges: tuple[OffsetRange, ...]


@dataclass(frozen=True)
class Landed:
    """The log entries of a unit's files, which no commit names yet, and the process that wrote them."""

    files: tuple[AddAction, ...]
    process: int


def units_of(settings: Settings, ranges: Sequence[OffsetRange], most: int = UNIT_MESSAGES) -> list[LandUnit]:
    """Divide ranges into units of about equal size, at most `most` messages, in their order; long ranges are split."""
    uri, bootstrap = table_io.table_uri(settings, BRONZE_MESSAGES), settings.bootstrap()
    most = equal_parts(sum(one.end - one.first for one in ranges), most)
    return [LandUnit(bootstrap, uri, tuple(group)) for group in _groups(ranges, most)]


def _groups(ranges: Sequence[OffsetRange], most: int) -> Iterator[list[OffsetRange]]:
    group: list[OffsetRange] = []
    room = most
    for topic, partition, first, end in ranges:
        while first < end:
            stop = min(end, first + room)
            group.append(OffsetRange(topic, partition, first, stop))
            room -= stop - first
            first = stop
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group


def land(unit: LandUnit) -> Landed:
    """Read a unit's messages from Kafka and write them to files.

    Raises what `OffsetRangeReader.read` raises, and OSError; no file is left then.
    """
    with new_files(unit.uri, BRONZE_MESSAGES) as files:
        for rows in read_rows(unit.bootstrap, unit.ranges):
            files.add(rows)
        return Landed(tuple(files.finish()), os.getpid())
