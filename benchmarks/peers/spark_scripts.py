"""The straightforward Spark scripts of a tutorial: one per layer, `--step bronze`, `silver` or `gold`.

Guarantees: Spark's and Delta's own, so each batch lands once. A trade more than 10 minutes late, or repeated, is
dropped in silence, the last minutes' bars wait for a later trade, and a lost checkpoint writes everything twice.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from benchmarks.peers.spark_session import quickstart_session
from benchmarks.peers.task import Task, task

MESSAGE = (
    "venue STRING, symbol STRING, native_symbol STRING, trade_id BIGINT, price STRING, size STRING, side STRING, "
    "ts_event BIGINT, ts_ingest BIGINT, source STRING"
)
DECIMAL = "DECIMAL(38, 18)"


def bronze(spark: SparkSession, wanted: Task) -> DataFrame:
    """Kafka → Bronze: the messages unchanged."""
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", wanted.bootstrap)
        .option("subscribe", wanted.topic)
        .option("startingOffsets", "earliest")
        .load()
        .select("topic", "partition", "offset", "timestamp", "key", "value")
    )


def silver(spark: SparkSession, wanted: Task) -> DataFrame:
    """Bronze → Silver: parsed, cast, without repeats of the last 10 minutes."""
    trade = F.from_json(F.col("value").cast("string"), MESSAGE)
    return (
        spark.readStream.format("delta")
        .load(str(wanted.out / "bronze"))
        .select(trade.alias("trade"), "timestamp")
        .select("trade.*", "timestamp")
        .withColumn("price", F.col("price").cast(DECIMAL))
        .withColumn("size", F.col("size").cast(DECIMAL))
        .withColumn("ts", F.timestamp_micros("ts_event"))
        .withWatermark("ts", "10 minutes")
        .dropDuplicates(["venue", "symbol", "trade_id", "ts"])
    )


def gold(spark: SparkSession, wanted: Task) -> DataFrame:
    """Silver → Gold: 1-minute OHLCV."""
    return (
        spark.readStream.format("delta")
        .load(str(wanted.out / "silver"))
        .withWatermark("ts", "1 minute")
        .groupBy("venue", "symbol", F.window("ts", "1 minute"))
        .agg(
            F.min_by("price", "trade_id").alias("open"),
            F.max("price").alias("high"),
            F.min("price").alias("low"),
            F.max_by("price", "trade_id").alias("close"),
            F.sum("size").alias("volume"),
            F.count("*").alias("trades"),
        )
    )


STEPS = {"bronze": bronze, "silver": silver, "gold": gold}


def run(wanted: Task) -> None:
    """Run one layer up to the newest data."""
    spark = quickstart_session(wanted.step)
    (
        STEPS[wanted.step](spark, wanted)
        .writeStream.format("delta")
        .outputMode("append")
        .option("checkpointLocation", str(wanted.out / "checkpoints" / wanted.step))
        .trigger(availableNow=True)
        .start(str(wanted.out / wanted.step))
        .awaitTermination()
    )


if __name__ == "__main__":
    run(task())
