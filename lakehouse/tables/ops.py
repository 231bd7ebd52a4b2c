"""The lakehouse's records about itself: batches, check verdicts, replays."""

from __future__ import annotations

from lakehouse.tables.model import Column, Table

OPS_BATCHES = Table(
    layer="ops",
    name="batches",
    grain="One row per committed micro-batch of a stream.",
    key=("query", "generation", "batch_id"),
    partition_by=("batch_date",),
    columns=(
        Column("query", "string", "bronze, silver or gold."),
        Column(
            "generation", "string", "Id of the checkpoint (a new checkpoint begins a new generation), or rebuild-<id>."
        ),
        Column("batch_id", "bigint", "Spark's batch id within the generation."),
        Column("run_id", "string", "Dagster run that wrote it, or `standalone:<pid>`."),
        Column("started_at", "timestamp", "Start of the batch, UTC."),
        Column("committed_at", "timestamp", "After the last table commit of the batch, UTC."),
        Column(
            "source_start",
            "string",
            "JSON: start of the batch. Kafka: topic → partition → first offset. Delta: version and index.",
        ),
        Column(
            "source_end",
            "string",
            "JSON: end of the batch. Kafka: next offsets. Delta: the last version read, and whether it was read whole.",
        ),
        Column("rows_in", "bigint", "Rows read: messages for bronze and silver, trades for gold."),
        Column("rows_out", "bigint", "Rows added to the main table; bars written for gold."),
        Column("rows_duplicate", "bigint", "Trades that were already there."),
        Column("rows_quarantined", "bigint", "Messages put into quarantine."),
        Column("rows_feed_events", "bigint", "Feed events added."),
        Column("versions", "string", "JSON: table path → Delta version after the batch."),
        Column(
            "partitions",
            "string",
            "JSON, bronze and silver: topic → Kafka partition → rows in, out, duplicate, quarantined, feed_events.",
            nullable=True,
        ),
        Column("batch_date", "date", "UTC date of committed_at."),
    ),
)

OPS_CHECKS = Table(
    layer="ops",
    name="checks",
    grain="One row per check evaluation.",
    key=("table_path", "check_name", "evaluated_at"),
    partition_by=("check_date",),
    columns=(
        Column("table_path", "string", "Table that was checked, such as silver/trades."),
        Column("check_name", "string", "Name of the check."),
        Column("evaluated_at", "timestamp", "When, UTC."),
        Column("passed", "boolean", "The verdict."),
        Column("detail", "string", "JSON: the figures behind the verdict."),
        Column("run_id", "string", "Dagster run that evaluated it, or `standalone:<pid>`."),
        Column("check_date", "date", "UTC date of evaluated_at."),
    ),
)

OPS_REPLAYS = Table(
    layer="ops",
    name="replays",
    grain="One row per quarantined message that `lakehouse replay` has settled; a message without a row is open.",
    key=("kafka_topic", "kafka_partition", "kafka_offset"),
    partition_by=(),
    columns=(
        Column("kafka_topic", "string", "Topic of the quarantined message."),
        Column("kafka_partition", "int", "Partition of that message."),
        Column("kafka_offset", "bigint", "Offset of that message."),
        Column("rule", "string", "The rule that it had failed."),
        Column(
            "outcome",
            "string",
            "sent: produced again as good trades. noise: today's parser reads no trade in it. "
            "dismissed: a person has decided to do nothing about it.",
        ),
        Column("trades", "int", "Trades that were produced from it; 0 for noise and dismissed."),
        Column("replayed_at", "timestamp", "When, UTC."),
        Column("reason", "string", "Why it was dismissed, if a reason was given.", nullable=True),
        Column("dismissed_by", "string", "USER@HOST of the person who dismissed it.", nullable=True),
    ),
)
