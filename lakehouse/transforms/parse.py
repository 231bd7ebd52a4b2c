"""Bronze messages → typed rows with a verdict. Pure DataFrame → DataFrame, the same for stream, batch and replay.

Every message gets a `kind`: trade, feed_event or quarantine. No row is dropped here. For rows in quarantine, `rule`
names the first rule of `spark_rules` that was not met, and `detail` states what was found and expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse.settings import Settings
from lakehouse.tables import DECIMAL, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES
from lakehouse.transforms import spark_rules as rules
from lakehouse.transforms.spark_rules import EVENT_FIELDS, REJECTED_FIELDS, TRADE_FIELDS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def parse_messages(messages: DataFrame, settings: Settings) -> DataFrame:
    """Add to Bronze rows the parsed struct `m` (all text) and their `kind`: trade, feed_event or quarantine."""
    fields = dict.fromkeys((*TRADE_FIELDS, *EVENT_FIELDS, *REJECTED_FIELDS))
    schema = ", ".join(f"{name} string" for name in fields)
    text = F.col("value_raw").cast("string")
    parsed = messages.withColumn("m", F.from_json(text, schema, {"mode": "PERMISSIVE"}))
    is_event = F.col("topic") == settings.topic_feed_events
    is_rejected = F.col("topic") == settings.topic_rejected
    kind = (
        F.when(is_rejected, "quarantine")
        .when(
            is_event,
            F.when(rules.all_met(rules.event_rules(settings)), "feed_event").otherwise("quarantine"),
        )
        .otherwise(F.when(rules.is_good_trade(settings), "trade").otherwise("quarantine"))
    )
    return parsed.select(*messages.columns, "m", kind.alias("kind"))


def trades(parsed: DataFrame) -> DataFrame:
    """Return the rows that may enter silver/trades, in its schema: one per message, duplicates included."""
    ts_event = F.timestamp_micros(F.col("m.ts_event").cast("bigint"))
    return parsed.where(F.col("kind") == "trade").select(
        F.col("m.venue").alias("venue"),
        F.col("m.symbol").alias("symbol"),
        F.col("m.trade_id").cast("bigint").alias("trade_id"),
        F.col("m.native_symbol").alias("native_symbol"),
        F.col("m.price").cast(DECIMAL).alias("price"),
        F.col("m.size").cast(DECIMAL).alias("size"),
        F.col("m.side").alias("side"),
        ts_event.alias("ts_event"),
        F.timestamp_micros(F.col("m.ts_ingest").cast("bigint")).alias("ts_ingest"),
        F.col("m.source").alias("source"),
        *_lineage(),
        F.to_date(ts_event).alias(SILVER_TRADES.partition_by[0]),
    )


def feed_events(parsed: DataFrame) -> DataFrame:
    """Return the rows of silver/feed_events, in its schema, from the messages whose kind is feed_event."""
    ts_event = F.timestamp_micros(F.col("m.ts_event").cast("bigint"))
    return parsed.where(F.col("kind") == "feed_event").select(
        F.col("m.venue").alias("venue"),
        F.col("m.event").alias("event"),
        ts_event.alias("ts_event"),
        F.col("m.connection_id").alias("connection_id"),
        F.col("m.symbol").alias("symbol"),
        F.col("m.first_id").cast("bigint").alias("first_id"),
        F.col("m.last_id").cast("bigint").alias("last_id"),
        F.coalesce(F.col("m.detail"), F.lit("")).alias("detail"),
        *_lineage(),
        F.to_date(ts_event).alias(SILVER_FEED_EVENTS.partition_by[0]),
    )


def quarantine(parsed: DataFrame, settings: Settings) -> DataFrame:
    """Return the rows of silver/quarantine: the messages of this kind, each with the first rule that it failed."""
    unnamed = F.struct(
        F.lit("bad_form").alias("rule"), F.lit("found no good trade; expected every rule met").alias("detail")
    )
    failed = (
        F.when(F.col("topic") == settings.topic_rejected, rules.rejected_verdict())
        .when(
            F.col("topic") == settings.topic_feed_events,
            rules.first_failure(rules.event_rules(settings)),
        )
        .otherwise(F.coalesce(rules.first_failure(rules.trade_rules(settings)), unnamed))
    )
    return _quarantine_rows(parsed.where(F.col("kind") == "quarantine").withColumn("failed", failed))


def quarantined(parsed: DataFrame, verdicts: DataFrame) -> DataFrame:
    """Return the rows of silver/quarantine for the parsed messages that `verdicts` names, with these verdicts.

    `verdicts`: kafka_topic, kafka_partition, kafka_offset, rule, detail.
    """
    failed = verdicts.select(
        F.col("kafka_topic").alias("topic"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
        F.struct("rule", "detail").alias("failed"),
    )
    return _quarantine_rows(parsed.join(failed, ["topic", "partition", "offset"]))


def _quarantine_rows(judged: DataFrame) -> DataFrame:
    return judged.select(
        F.col("failed.rule").alias("rule"),
        F.col("failed.detail").alias("detail"),
        F.col("m.venue").alias("venue"),
        F.col("m.symbol").alias("symbol"),
        F.expr("try_cast(m.trade_id as bigint)").alias("trade_id"),
        "key",
        "value_raw",
        *_lineage(),
        F.col("ingest_date").alias(SILVER_QUARANTINE.partition_by[0]),
    )


def first_of_key(rows: DataFrame) -> DataFrame:
    """Keep each trade once: the first in Kafka's order of the rows with the same (venue, symbol, trade_id)."""
    order = F.struct("kafka_topic", "kafka_partition", "kafka_offset")
    keys = SILVER_TRADES.key
    others = [name for name in rows.columns if name not in keys]
    return (
        rows.groupBy(*keys)
        .agg(F.min_by(F.struct(*others), order).alias("kept"))
        .select(*(F.col(name) if name in keys else F.col(f"kept.{name}").alias(name) for name in rows.columns))
    )


def _lineage() -> tuple[Column, ...]:
    return (
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("ts_kafka"),
    )
