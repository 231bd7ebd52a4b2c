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
from lakehouse.streams.batch_plan import UNIT_MESSAGES
from lakehouse.streams.data_files import new_files
from lakehouse.streams.kafka_rows import read_rows
from lakehouse.tables import BRONZE_MESSAGES

#: Most blocks into which a topic's partitions are divided, and so units of a batch of which none is too large.
BLOCKS = 12


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
    """Divide ranges into units of at most `most` messages, in their order; a small batch is one unit.

    A unit has one block of a topic's partitions, the same in each batch, so the files of a block hold the same markets:
    Silver finds an id's copies in one of its own units (`refine.units_of`). Only a larger block is divided.
    """
    uri, bootstrap = table_io.table_uri(settings, BRONZE_MESSAGES), settings.bootstrap()
    return [LandUnit(bootstrap, uri, tuple(group)) for group in _groups(ranges, most)]


def _groups(ranges: Sequence[OffsetRange], most: int) -> Iterator[list[OffsetRange]]:
    if 0 < sum(one.end - one.first for one in ranges) <= most:
        yield [one for one in ranges if one.first < one.end]
        return
    partitions: dict[str, int] = {}
    for one in ranges:
        partitions[one.topic] = max(partitions.get(one.topic, 0), one.partition + 1)
    group: list[OffsetRange] = []
    blocks: dict[str, int] = {}  #: topic → block of its ranges in `group`
    room = most
    for one in ranges:
        block = one.partition // -(-partitions[one.topic] // BLOCKS)
        for part in _equal_parts(one, most):
            if group and (part.end - part.first > room or blocks.get(one.topic, block) != block):
                yield group
                group, blocks, room = [], {}, most
            group.append(part)
            blocks[one.topic] = block
            room -= part.end - part.first
    if group:
        yield group


def _equal_parts(one: OffsetRange, most: int) -> Iterator[OffsetRange]:
    messages = one.end - one.first
    parts = -(-messages // most)
    for number in range(parts):
        yield one._replace(
            first=one.first + messages * number // parts, end=one.first + messages * (number + 1) // parts
        )


def land(unit: LandUnit) -> Landed:
    """Read a unit's messages from Kafka and write them to files.

    Raises what `OffsetRangeReader.read` raises, and OSError; no file is left then.
    """
    with new_files(unit.uri, BRONZE_MESSAGES) as files:
        for rows in read_rows(unit.bootstrap, unit.ranges):
            files.add(rows)
        return Landed(tuple(files.finish()), os.getpid())
