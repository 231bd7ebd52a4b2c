"""Trades → islands: contiguous trade id ranges per (venue, symbol) and Kafka partition. Pure DataFrame → DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F  # noqa: N812

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def islands(trades: DataFrame) -> DataFrame:
    """One row per (venue, symbol, contiguous id range, Kafka topic and partition) of Silver-shaped rows.

    Columns: venue, symbol, kafka_topic, kafka_partition, first_id, last_id, rows (duplicates included), ids (rows that
    come first of their key, by Kafka position), repaired (those of them with source repair), ts_first and ts_last
    (event times of the first and the last id). Where the ids of a range are spread over several partitions, each row's
    first_id and last_id lie within the same contiguous range, so their union is still right.
    """
    keys = Window.partitionBy("venue", "symbol")
    order = ("trade_id", "kafka_topic", "kafka_partition", "kafka_offset")
    before = F.lag("trade_id").over(keys.orderBy(*order))
    is_first = F.coalesce(before != F.col("trade_id"), F.lit(True))
    marked = trades.select(
        "venue",
        "symbol",
        "kafka_topic",
        "kafka_partition",
        "trade_id",
        "ts_event",
        is_first.alias("is_first"),
        (F.col("source") == "repair").alias("is_repair"),
        # Within a contiguous run the id and its rank rise together.
        (F.col("trade_id") - F.dense_rank().over(keys.orderBy("trade_id"))).alias("island"),
    )
    return (
        marked.groupBy("venue", "symbol", "kafka_topic", "kafka_partition", "island")
        .agg(
            F.min("trade_id").alias("first_id"),
            F.max("trade_id").alias("last_id"),
            F.count("*").alias("rows"),
            F.count_if("is_first").alias("ids"),
            F.count_if(F.col("is_first") & F.col("is_repair")).alias("repaired"),
            F.min_by("ts_event", "trade_id").alias("ts_first"),
            F.max_by("ts_event", "trade_id").alias("ts_last"),
        )
        .drop("island")
    )
