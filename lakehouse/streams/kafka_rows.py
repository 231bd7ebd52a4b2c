"""Messages of Kafka as rows of bronze/messages.

A process keeps the connections of a reader that has done its work for the next one: a consumer's start takes as long as
a live batch's messages.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader, Run
from lakehouse.lake import table_io
from lakehouse.tables import BRONZE_MESSAGES

#: Kafka's number of a timestamp's type, by confluent-kafka's number, which is 0, 1 or 2.
_TS_TYPES = np.empty(3, np.int32)
_TS_TYPES[[TIMESTAMP_NOT_AVAILABLE, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME]] = (-1, 0, 1)

#: Readers of this process that nobody uses at the moment, each with its bootstrap servers.
_IDLE: deque[tuple[str, OffsetRangeReader]] = deque()


def read_rows(bootstrap: str, ranges: Sequence[OffsetRange]) -> Iterator[pa.Table]:
    """Yield the ranges' messages as rows of bronze/messages; a table is of one partition, in the order of offsets.

    Raises like `OffsetRangeReader.read`.
    """
    reader = _idle(bootstrap) or OffsetRangeReader(bootstrap)
    try:
        yield from map(rows_of, reader.read(ranges))
    except BaseException:
        reader.close()
        raise
    _IDLE.append((bootstrap, reader))


def close_readers() -> None:
    """Close the connections to Kafka that this process keeps and nobody uses."""
    with contextlib.suppress(IndexError):
        while True:
            _IDLE.popleft()[1].close()


def _idle(bootstrap: str) -> OffsetRangeReader | None:
    for _ in range(len(_IDLE)):
        with contextlib.suppress(IndexError):  # another thread was faster
            kept = _IDLE.popleft()
            if kept[0] == bootstrap:
                return kept[1]
            _IDLE.append(kept)
    return None


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
