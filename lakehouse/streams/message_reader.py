"""Messages of Kafka as rows of bronze/messages: those of a batch, and the first ones before a batch asks for them.

Guarantee: `Reader.read` gives each message of the ranges once, whether it was read ahead or not: messages that were
read ahead are taken only if they begin at the very offset at which the batch's range begins, and cut at its end; the
rest is read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader, PartitionKey, Run
from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.lake.lag import Offsets
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES

#: Kafka's number of a timestamp's type, by confluent-kafka's number, which is 0, 1 or 2.
_TS_TYPES = np.empty(3, np.int32)
_TS_TYPES[[TIMESTAMP_NOT_AVAILABLE, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME]] = (-1, 0, 1)


class Reader:
    """The Kafka consumer of one query, made by the first batch that needs it, and anew after a batch that failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: OffsetRangeReader | None = None  #: None also while a batch reads
        self._ahead: _ReadAhead | None = None
        self._is_closed = False

    def read_ahead(self, ranges: Sequence[OffsetRange]) -> None:
        """Begin to read the ranges that the first batches will probably ask for, in a thread of its own."""
        self._ahead = _ReadAhead(self._settings.bootstrap(), ranges)

    def close(self) -> None:
        """Close the connections to Kafka: now, or at the end of a batch that is reading."""
        self._is_closed = True
        if self._ahead is not None:
            self._ahead.take(())
        if self._reader is not None:
            self._reader.close()
        self._ahead = self._reader = None

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[pa.Table]:
        """Yield the ranges' messages as rows of bronze/messages; a table is of one partition, in the order of offsets.

        Raises like `OffsetRangeReader.read`.
        """
        if self._ahead is not None:
            rows, ranges = self._ahead.take(ranges)
            yield from rows
            del rows
        reader = self._reader or OffsetRangeReader(self._settings.bootstrap())
        self._reader = None
        try:
            yield from map(rows_of, reader.read(ranges))
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        if self._is_closed:
            self.close()


class _ReadAhead:
    """Messages of some ranges, read in a thread of its own until a batch takes them.

    An error of Kafka ends the reading and is not reported: the batch that reads the rest meets it again.
    """

    def __init__(self, bootstrap: str, ranges: Sequence[OffsetRange]) -> None:
        self._bootstrap, self._ranges = bootstrap, ranges
        self._guard = threading.Lock()
        self._is_taken = False
        self._first: dict[PartitionKey, int] = {(one.topic, one.partition): one.first for one in ranges}
        self._rows: dict[PartitionKey, list[pa.Table]] = {}
        threading.Thread(target=self._read, name="read-ahead", daemon=True).start()

    def take(self, ranges: Sequence[OffsetRange]) -> tuple[list[pa.Table], list[OffsetRange]]:
        """End the reading; return the rows of the ranges that have been read, and the ranges that are left to read.

        Rows that lie beyond the ranges are kept for the ranges after them; all others are dropped.
        """
        with self._guard:
            self._is_taken = True
            rows, self._rows = self._rows, {}
        found: list[pa.Table] = []
        left: list[OffsetRange] = []
        for topic, partition, first, end in ranges:
            place = (topic, partition)
            for table in rows.get(place, []) if self._first.get(place) == first else []:
                part = table.slice(0, end - first)
                first += part.num_rows
                if part.num_rows:
                    found.append(part)
                if part.num_rows < table.num_rows:
                    self._rows.setdefault(place, []).append(table.slice(part.num_rows))
            self._first[place] = first
            if first < end:
                left.append(OffsetRange(topic, partition, first, end))
        return found, left

    def _read(self) -> None:
        with contextlib.suppress(LakehouseError), contextlib.closing(OffsetRangeReader(self._bootstrap)) as reader:
            for run in reader.read(self._ranges):
                rows = rows_of(run)
                with self._guard:
                    if self._is_taken:
                        return
                    self._rows.setdefault((run.topic, run.partition), []).append(rows)


def first_messages(start: Offsets, end: Offsets, most: int) -> list[OffsetRange]:
    """Return the ranges of the first `most` messages between two positions, shared out as Spark does, but for rounding.

    Each partition gets its share of all messages there are (Spark 4.2, `KafkaMicroBatchStream.rateLimit`). A partition
    that `start` does not name begins at 0.
    """
    ranges = [
        OffsetRange(topic, int(partition), start.get(topic, {}).get(partition, 0), last)
        for topic, partitions in end.items()
        for partition, last in partitions.items()
    ]
    there = sum(max(0, one.end - one.first) for one in ranges)
    part = min(1.0, most / there) if there else 0.0
    return [one._replace(end=one.first + int(part * (one.end - one.first))) for one in ranges if one.first < one.end]


def rows_of(run: Run) -> pa.Table:
    """Convert messages of one partition to rows of bronze/messages. Kafka's milliseconds become microseconds."""
    count = len(run.messages)
    # To unzip the pairs as Python's objects would be half of this function's time.
    stamps = np.fromiter(chain.from_iterable(map(Message.timestamp, run.messages)), np.int64, 2 * count)
    at = pa.array(stamps[1::2], pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    return pa.table(
        {
            "topic": pa.repeat(pa.scalar(run.topic, pa.string()), count),
            "partition": pa.repeat(pa.scalar(run.partition, pa.int32()), count),
            "offset": pa.array(np.arange(run.first, run.first + count)),
            "ts_kafka": at.cast(pa.timestamp("us", tz="UTC")),
            "ts_type": pa.array(_TS_TYPES[stamps[0::2]]),
            "key": pa.array(list(map(Message.key, run.messages)), pa.binary()),
            "value_raw": pa.array(list(map(Message.value, run.messages)), pa.binary()),
            "ingest_date": at.cast(pa.date32()),
        },
        schema=table_io.arrow_schema(BRONZE_MESSAGES),
    )
