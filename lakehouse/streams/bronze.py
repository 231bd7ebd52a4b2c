"""Kafka → bronze/messages: every message, as received.

Guarantee: exactly once. Spark's checkpoint says which offsets a batch holds; Delta's transaction id skips a batch that
the table has already taken. The messages themselves are read here, past the JVM (docs/adr/0009), and each offset has to
be there. `failOnDataLoss` stays true: messages that expired unread stop the stream instead of vanishing. A lost
checkpoint is rebuilt from the offsets in the table itself.
Gap: messages that Kafka's retention removed before we read them cannot come back; the stream says so and stops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE, Message
from deltalake import Transaction
from deltalake.exceptions import CommitFailedError

from lakehouse import lake
from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader, Run
from lakehouse.broker.topics import end_offsets
from lakehouse.errors import RetriableError
from lakehouse.lag import Offsets
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, committed_batch
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.checkpoints import kafka_rows_by_partition
from lakehouse.tables import BRONZE_MESSAGES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Kafka's own number of a timestamp's type, by confluent-kafka's.
_TS_TYPES = {TIMESTAMP_NOT_AVAILABLE: -1, TIMESTAMP_CREATE_TIME: 0, TIMESTAMP_LOG_APPEND_TIME: 1}


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """The Kafka source of the three topics."""
    settings = context.settings
    starting = settings.starting_offsets
    if context.checkpoint.is_new():
        starting = starting_after_table(settings) or starting
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.bootstrap())
        .option("subscribe", ",".join(settings.topics))
        .option("startingOffsets", starting)
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", settings.max_offsets_per_trigger)
        .load()
    )


def next_offsets(settings: Settings) -> Offsets:
    """Topic → partition → the offset after the last one in the table."""
    rows = lake.sql(
        settings,
        'SELECT topic, "partition", max("offset") + 1 AS next FROM messages GROUP BY topic, "partition"',
        messages=BRONZE_MESSAGES,
    ).to_pylist()
    offsets: Offsets = {}
    for row in rows:
        offsets.setdefault(row["topic"], {})[str(row["partition"])] = int(row["next"])
    return offsets


def starting_after_table(settings: Settings) -> str | None:
    """Kafka's `startingOffsets` that continue the table; None where the table is empty."""
    table = next_offsets(settings)
    if not any(topic in table for topic in settings.topics):
        return None
    earliest = -2  # Kafka source's word for "from the beginning", for partitions that the table has not seen
    partitions = end_offsets(settings.bootstrap(), settings.topics)
    return json.dumps(
        {
            topic: {str(partition): table.get(topic, {}).get(str(partition), earliest) for partition in numbers}
            for topic, numbers in partitions.items()
        }
    )


class Reader:
    """The consumer of one query: made by the first batch that needs it, and anew behind one that failed."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._reader: OffsetRangeReader | None = None  #: while nobody reads
        self._is_closed = False

    def close(self) -> None:
        """Give the connections back: now, or at the end of a batch that reads."""
        self._is_closed = True
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[Run]:
        """What `OffsetRangeReader.read` gives, and raises."""
        reader = self._reader or OffsetRangeReader(self._bootstrap)
        self._reader = None
        try:
            yield from reader.read(ranges)
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        if self._is_closed:
            self.close()


def write_batch(messages: DataFrame, batch_id: int, context: BatchContext, reader: Reader) -> BatchResult:
    """Append one batch of messages."""
    settings = context.settings
    end: Offsets = context.checkpoint.offset(batch_id) or {}
    ranges = batch_plan.offsets_of(messages)
    start = starts_of(ranges, end)
    app_id = context.app_id(BRONZE_MESSAGES)
    taken = committed_batch(settings, BRONZE_MESSAGES, app_id)
    if ranges and (taken is None or taken < batch_id):
        _append(reader.read(ranges), settings, Transaction(app_id, batch_id))
    places = {
        (topic, int(partition)): PartitionRows(rows, rows)
        for topic, partitions in kafka_rows_by_partition(start, end).items()
        for partition, rows in partitions.items()
        if rows
    }
    version = lake.open_table(settings, BRONZE_MESSAGES).version()
    return BatchResult.of_partitions(places, start, end, {BRONZE_MESSAGES.path: version})


def starts_of(ranges: Sequence[OffsetRange], end: Offsets) -> Offsets:
    """Where a batch begins in every partition; where it holds none of its messages, that is where it ends."""
    starts: Offsets = {topic: dict(partitions) for topic, partitions in end.items()}
    for one in ranges:
        starts[one.topic][str(one.partition)] = one.first
    return starts


def _append(runs: Iterator[Run], settings: Settings, transaction: Transaction) -> None:
    """One commit of messages, written while they are read.

    Raises what the reader raises, and RetriableError where another writer was faster; nothing is committed then.
    """
    with BulkAppend(settings, BRONZE_MESSAGES) as append:
        for run in runs:
            append.add(rows_of(run))
        try:
            append.commit(transaction)
        except CommitFailedError as error:
            raise RetriableError(
                f"{BRONZE_MESSAGES.path} took somebody else's commit in the place of this batch's ({error})",
                "one writer",
                "stop the other one; this one can be started again",
            ) from None


def rows_of(run: Run) -> pa.Table:
    """Messages of one topic and partition as rows of bronze/messages. Kafka's milliseconds become microseconds."""
    kinds, milliseconds = zip(*map(Message.timestamp, run.messages), strict=True)
    at = pa.array(milliseconds, pa.timestamp("ms", tz="UTC"))
    count = len(run.messages)
    return pa.table(
        {
            "topic": pa.repeat(pa.scalar(run.topic, pa.string()), count),
            "partition": pa.repeat(pa.scalar(run.partition, pa.int32()), count),
            "offset": pa.array(np.arange(run.first, run.first + count)),
            "ts_kafka": at.cast(pa.timestamp("us", tz="UTC")),
            "ts_type": pa.array([_TS_TYPES[kind] for kind in kinds], pa.int32()),
            "key": pa.array(list(map(Message.key, run.messages)), pa.binary()),
            "value_raw": pa.array(list(map(Message.value, run.messages)), pa.binary()),
            "ingest_date": at.cast(pa.date32()),
        },
        schema=lake.arrow_schema(BRONZE_MESSAGES),
    )
