"""Kafka → bronze/messages: every message, as received.

Guarantee: exactly once. Spark's checkpoint says which offsets a batch holds; Delta's transaction id skips a batch that
the table has already taken. `failOnDataLoss` stays true: messages that expired unread stop the stream instead of
vanishing. A lost checkpoint is rebuilt from the offsets in the table itself.
Gap: messages that Kafka's retention removed before we read them cannot come back; the stream says so and stops.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lakehouse import lake
from lakehouse.broker.topics import end_offsets
from lakehouse.lag import Offsets
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, committed_batch
from lakehouse.streams.checkpoints import kafka_rows, kafka_rows_by_partition
from lakehouse.tables import BRONZE_MESSAGES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Below this a batch becomes one file a topic; above, Kafka's partitions are written side by side.
SMALL_BATCH_ROWS = 200_000


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


def write_batch(messages: DataFrame, batch_id: int, context: BatchContext) -> BatchResult:
    """Append one batch of messages."""
    from pyspark.sql import functions as F  # noqa: N812

    settings = context.settings
    app_id = context.app_id(BRONZE_MESSAGES)
    end: Offsets = context.checkpoint.offset(batch_id) or {}
    before: Offsets | None = context.checkpoint.offset(batch_id - 1)
    rows = messages.select(
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("ts_kafka"),
        F.col("timestampType").alias("ts_type"),
        "key",
        F.col("value").alias("value_raw"),
        F.to_date("timestamp").alias("ingest_date"),
    )
    start = before if before is not None else _first_offsets(messages, end)
    expected = kafka_rows(start, end)
    if expected <= SMALL_BATCH_ROWS:
        rows = rows.coalesce(1)
    taken = committed_batch(settings, BRONZE_MESSAGES, app_id)
    if expected and (taken is None or taken < batch_id):
        (
            rows.write.format("delta")
            .mode("append")
            .option("txnAppId", app_id)
            .option("txnVersion", batch_id)
            .partitionBy(*BRONZE_MESSAGES.partition_by)
            .save(lake.table_uri(settings, BRONZE_MESSAGES))
        )
    places = {
        (topic, int(partition)): PartitionRows(rows, rows)
        for topic, partitions in kafka_rows_by_partition(start, end).items()
        for partition, rows in partitions.items()
        if rows
    }
    version = lake.open_table(settings, BRONZE_MESSAGES).version()
    return BatchResult.of_partitions(places, start, end, {BRONZE_MESSAGES.path: version})


def _first_offsets(messages: DataFrame, end: Offsets) -> Offsets:
    """Where the first batch of a checkpoint begins; Spark writes down only where it ends."""
    rows = messages.groupBy("topic", "partition").agg({"offset": "min"}).collect()
    first: Offsets = {topic: dict(partitions) for topic, partitions in end.items()}
    for topic, partition, offset in rows:
        first[topic][str(partition)] = offset
    return first
