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
    """Divide ranges into units of at most `most` messages, in their order.

    A range is divided only if it alone has more: a market keeps to a partition, so few units find copies of one id.
    """
    uri, bootstrap = table_io.table_uri(settings, BRONZE_MESSAGES), settings.bootstrap()
    return [LandUnit(bootstrap, uri, tuple(group)) for group in _groups(ranges, most)]


def _groups(ranges: Sequence[OffsetRange], most: int) -> Iterator[list[OffsetRange]]:
    group: list[OffsetRange] = []
    room = most
    for one in ranges:
        for part in _equal_parts(one, most):
            if group and part.end - part.first > room:
                yield group
                group, room = [], most
            group.append(part)
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
