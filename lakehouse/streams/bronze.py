"""Kafka → bronze/messages: every message, as received.

Guarantee: exactly once. Spark's checkpoint says which offsets a batch holds; Delta skips a batch whose transaction id
the table has already taken. The messages themselves are read here, without the JVM (docs/adr/0009), and each offset
must be there. `failOnDataLoss` stays true: messages that expired unread stop the stream and are not skipped. If the
checkpoint is lost, the stream goes on after the offsets in the table itself.
The table's files carry ascending times in its log: the order in which Silver meets copies of a trade, and in which a
rebuild of Silver reads them.
Gap: messages that Kafka's retention removed before they were read cannot come back; the stream says so and stops.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from deltalake import Transaction

from lakehouse.broker.offset_ranges import OffsetRange
from lakehouse.broker.topics import end_offsets
from lakehouse.lake import table_io
from lakehouse.lake.lag import Offsets
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, landing
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, committed_batch
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.checkpoints import kafka_rows_by_partition
from lakehouse.streams.data_files import undo
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import BRONZE_MESSAGES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """Return Spark's Kafka source of the topics; with a new checkpoint it begins after the messages in the table."""
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
    """Return topic → partition → the offset after the last one in bronze/messages."""
    rows = table_io.sql(
        settings,
        'SELECT topic, "partition", max("offset") + 1 AS next FROM messages GROUP BY topic, "partition"',
        messages=BRONZE_MESSAGES,
    ).to_pylist()
    offsets: Offsets = {}
    for row in rows:
        offsets.setdefault(row["topic"], {})[str(row["partition"])] = int(row["next"])
    return offsets


def starting_after_table(settings: Settings) -> str | None:
    """Return the option `startingOffsets` with which Spark goes on after the table's messages, None if it has none.

    Raises BrokerUnavailableError if Kafka does not name the topics' partitions.
    """
    table = next_offsets(settings)
    if not any(topic in table for topic in settings.topics):
        return None
    earliest = -2  # Spark's number for "from the beginning", for partitions without a message in the table
    partitions = end_offsets(settings.bootstrap(), settings.topics)
    return json.dumps(
        {
            topic: {str(partition): table.get(topic, {}).get(str(partition), earliest) for partition in numbers}
            for topic, numbers in partitions.items()
        }
    )


def write_batch(batch_id: int, context: BatchContext, tasks: Tasks) -> BatchResult:
    """Append one batch of messages."""
    settings = context.settings
    end: Offsets = context.checkpoint.offset(batch_id) or {}
    ranges = batch_plan.kafka_ranges(context.checkpoint, batch_id)
    start = starts_of(ranges, end)
    app_id = context.app_id(BRONZE_MESSAGES)
    taken = committed_batch(settings, BRONZE_MESSAGES, app_id)
    if ranges and (taken is None or taken < batch_id):
        version = _append(ranges, settings, Transaction(app_id, batch_id), tasks)
    else:
        version = table_io.open_table(settings, BRONZE_MESSAGES).version()
    places = {
        (topic, int(partition)): PartitionRows(rows, rows)
        for topic, partitions in kafka_rows_by_partition(start, end).items()
        for partition, rows in partitions.items()
        if rows
    }
    return BatchResult.of_partitions(places, start, end, {BRONZE_MESSAGES.path: version})


def starts_of(ranges: Sequence[OffsetRange], end: Offsets) -> Offsets:
    """Return where a batch begins in every partition of `end`: at its end if it holds no message of it."""
    starts: Offsets = {topic: dict(partitions) for topic, partitions in end.items()}
    for one in ranges:
        starts[one.topic][str(one.partition)] = one.first
    return starts


def _append(ranges: Sequence[OffsetRange], settings: Settings, transaction: Transaction, tasks: Tasks) -> int:
    """Have the ranges written to files, append these in one commit, and return the table's version after it.

    Raises what a work raises, and RetriableError if another writer was faster; nothing is committed then.
    """
    uri = table_io.table_uri(settings, BRONZE_MESSAGES)
    landed = tasks.run(landing.units_of(settings, ranges), landing.land, partial(undo, uri))
    with BulkAppend(settings, BRONZE_MESSAGES, in_order=True) as append:
        append.adopt([file for one in landed for file in one.files])
        return append.commit_alone(transaction)
