"""The table registry: every schema, key, partitioning and grain, declared once as frozen values without behaviour.

`type` is a Spark SQL type; decimals and nullability are part of the contract. `lakehouse.lake` creates the tables from
this registry and opens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layer = Literal["bronze", "silver", "gold", "ops"]

#: Prices and sizes: holds every decimal that Binance (8), Kraken (10 + 8) and Coinbase (8) can send.
DECIMAL = "decimal(38,18)"


@dataclass(frozen=True)
class Column:
    """A column: Spark SQL type, nullability, and what it holds, with unit."""

    name: str
    type: str
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A Delta table. `path` is relative to the lake's root; `key` is unique over the whole table."""

    layer: Layer
    name: str
    grain: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        return f"{self.layer}/{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _offsets() -> tuple[Column, ...]:
    return (
        Column("kafka_topic", "string", "Topic of the message this row comes from."),
        Column("kafka_partition", "int", "Partition of that message."),
        Column("kafka_offset", "bigint", "Offset of that message."),
        Column("ts_kafka", "timestamp", "Kafka's timestamp of that message, UTC."),
    )


BRONZE_MESSAGES = Table(
    layer="bronze",
    name="messages",
    grain="One row per Kafka message, as received.",
    key=("topic", "partition", "offset"),
    partition_by=("topic", "ingest_date"),
    columns=(
        Column("topic", "string", "Kafka topic."),
        Column("partition", "int", "Kafka partition."),
        Column("offset", "bigint", "Kafka offset; contiguous per topic and partition."),
        Column("ts_kafka", "timestamp", "Kafka's timestamp, UTC."),
        Column("ts_type", "int", "Kafka's timestamp type: 0 set by the producer, 1 by the broker."),
        Column("key", "binary", "Message key, verbatim.", nullable=True),
        Column("value_raw", "binary", "Message value, verbatim.", nullable=True),
        Column("ingest_date", "date", "UTC date of ts_kafka."),
    ),
)

SILVER_TRADES = Table(
    layer="silver",
    name="trades",
    grain="One row per (venue, symbol, trade_id).",
    key=("venue", "symbol", "trade_id"),
    partition_by=("event_date",),
    columns=(
        Column("venue", "string", "Exchange: binance, kraken or coinbase."),
        Column("symbol", "string", "Canonical symbol, BASE/QUOTE; XBT is BTC."),
        Column("trade_id", "bigint", "The venue's trade id; contiguous per (venue, symbol)."),
        Column("native_symbol", "string", "The venue's own spelling of the symbol."),
        Column("price", DECIMAL, "Quote units per base unit, exactly as the venue wrote it."),
        Column("size", DECIMAL, "Base units, exactly as the venue wrote it."),
        Column("side", "string", "Taker side: buy or sell."),
        Column("ts_event", "timestamp", "The venue's time of the trade, UTC, microseconds."),
        Column("ts_ingest", "timestamp", "When our socket received it, UTC, microseconds."),
        Column("source", "string", "live, snapshot or repair."),
        *_offsets(),
        Column("event_date", "date", "UTC date of ts_event."),
    ),
)

SILVER_QUARANTINE = Table(
    layer="silver",
    name="quarantine",
    grain="One row per message that failed a rule.",
    key=("kafka_topic", "kafka_partition", "kafka_offset"),
    partition_by=("ingest_date",),
    columns=(
        Column("rule", "string", "Name of the first rule that the message failed."),
        Column("detail", "string", "What was found and what was expected."),
        Column("venue", "string", "Venue, where it could be read.", nullable=True),
        Column("symbol", "string", "Canonical symbol, where it could be read.", nullable=True),
        Column("trade_id", "bigint", "Trade id, where it could be read.", nullable=True),
        Column("key", "binary", "Message key, verbatim.", nullable=True),
        Column("value_raw", "binary", "Message value, verbatim.", nullable=True),
        *_offsets(),
        Column("ingest_date", "date", "UTC date of ts_kafka."),
    ),
)

SILVER_FEED_EVENTS = Table(
    layer="silver",
    name="feed_events",
    grain="One row per feed event.",
    key=("kafka_topic", "kafka_partition", "kafka_offset"),
    partition_by=("event_date",),
    columns=(
        Column("venue", "string", "Exchange."),
        Column(
            "event", "string", "connected, subscribed, subscription_refused, venue_error, stale, disconnected, gap_…"
        ),
        Column("ts_event", "timestamp", "When ingest saw it, UTC."),
        Column("connection_id", "string", "Ingest's own id of the connection."),
        Column("symbol", "string", "Canonical symbol, where the event is about one.", nullable=True),
        Column("first_id", "bigint", "First missing trade id of a gap event.", nullable=True),
        Column("last_id", "bigint", "Last missing trade id of a gap event, inclusive.", nullable=True),
        Column("detail", "string", "For people."),
        *_offsets(),
        Column("event_date", "date", "UTC date of ts_event."),
    ),
)

SILVER_CONTINUITY = Table(
    layer="silver",
    name="continuity",
    grain="One row per contiguous trade id range of (venue, symbol): present, open hole or unavailable.",
    key=("venue", "symbol", "first_id"),
    partition_by=(),
    columns=(
        Column("venue", "string", "Exchange."),
        Column("symbol", "string", "Canonical symbol."),
        Column("first_id", "bigint", "First trade id of the range."),
        Column("last_id", "bigint", "Last trade id of the range, inclusive. The next range begins right behind it."),
        Column(
            "state",
            "string",
            "present: every id is in silver/trades. open: known to exist and not there, to be repaired. "
            "unavailable: the venue has said that it no longer has them.",
        ),
        Column(
            "ts_first",
            "timestamp",
            "Time of the trade first_id; of a hole, of the trade before it, where known.",
            nullable=True,
        ),
        Column(
            "ts_last",
            "timestamp",
            "Time of the trade last_id; of a hole, of the trade behind it, where known.",
            nullable=True,
        ),
        Column("since", "timestamp", "When the ledger first held the range in this state, UTC."),
        Column("repaired", "bigint", "Ids of the range that came over REST; 0 for a hole."),
        Column("trades_version", "bigint", "Version of silver/trades that all rows of this table describe."),
    ),
)


def _bars(name: str, minutes: int) -> Table:
    return Table(
        layer="gold",
        name=name,
        grain="One row per (venue, symbol, bar start).",
        key=("venue", "symbol", "bar_start"),
        partition_by=("bar_date",),
        columns=(
            Column("venue", "string", "Exchange."),
            Column("symbol", "string", "Canonical symbol."),
            Column("bar_start", "timestamp", f"Start of the {minutes}-minute bar, UTC, inclusive."),
            Column("open", DECIMAL, "Price of the first trade by (ts_event, trade_id)."),
            Column("high", DECIMAL, "Highest price."),
            Column("low", DECIMAL, "Lowest price."),
            Column("close", DECIMAL, "Price of the last trade by (ts_event, trade_id)."),
            Column("volume", DECIMAL, "Base units traded."),
            Column(
                "quote_volume",
                DECIMAL,
                "Sum of price × size; each product half-up to 18 decimals, exact for the venues' own scales.",
            ),
            Column("vwap", DECIMAL, "quote_volume ÷ volume, half-up to 18 decimals."),
            Column("trades", "bigint", "Number of trades."),
            Column("buy_volume", DECIMAL, "Base units where the taker bought."),
            Column("sell_volume", DECIMAL, "Base units where the taker sold."),
            Column("pressure", DECIMAL, "(buy_volume − sell_volume) ÷ volume, half-up to 18 decimals; −1 to 1."),
            Column("first_trade_id", "bigint", "Lowest trade id of the bar."),
            Column("last_trade_id", "bigint", "Highest trade id of the bar."),
            Column(
                "complete",
                "boolean",
                "Proved by ids: every id from the one before first_trade_id to the one behind last_trade_id is in "
                "silver/trades, so no trade of this bar can be missing. The newest bar is not, until the next trade.",
            ),
            Column("revision", "bigint", "1 when first written, plus 1 whenever the content changed."),
            Column("updated_at", "timestamp", "When this revision was written, UTC."),
            Column("bar_date", "date", "UTC date of bar_start."),
        ),
    )


GOLD_BARS_1M = _bars("bars_1m", 1)
GOLD_BARS_5M = _bars("bars_5m", 5)

OPS_BATCHES = Table(
    layer="ops",
    name="batches",
    grain="One row per committed micro-batch of a stream.",
    key=("query", "generation", "batch_id"),
    partition_by=("batch_date",),
    columns=(
        Column("query", "string", "bronze, silver or gold."),
        Column("generation", "string", "Id of the checkpoint; a new checkpoint is a new generation."),
        Column("batch_id", "bigint", "Spark's batch id within the generation."),
        Column("run_id", "string", "Dagster run that wrote it, or `standalone:<pid>`."),
        Column("started_at", "timestamp", "Start of the batch, UTC."),
        Column("committed_at", "timestamp", "After the last table commit of the batch, UTC."),
        Column(
            "source_start",
            "string",
            "JSON: where the batch begins. Kafka: topic → partition → first offset. Delta: version and index.",
        ),
        Column(
            "source_end",
            "string",
            "JSON: where the batch ends. Kafka: next offsets. Delta: the last version read, and whether all of it.",
        ),
        Column("rows_in", "bigint", "Rows read: messages for bronze and silver, trades for gold."),
        Column("rows_out", "bigint", "Rows added to the main table; bars written for gold."),
        Column("rows_duplicate", "bigint", "Trades that were already there."),
        Column("rows_quarantined", "bigint", "Messages put to quarantine."),
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
    grain="One row per quarantined message that `lakehouse replay` has settled; what has none is open.",
    key=("kafka_topic", "kafka_partition", "kafka_offset"),
    partition_by=(),
    columns=(
        Column("kafka_topic", "string", "Topic of the quarantined message."),
        Column("kafka_partition", "int", "Partition of that message."),
        Column("kafka_offset", "bigint", "Offset of that message."),
        Column("rule", "string", "The rule that it had failed."),
        Column("outcome", "string", "sent: produced again as good trades. noise: today's parser reads no trade in it."),
        Column("trades", "int", "Trades that were produced from it; 0 for noise."),
        Column("replayed_at", "timestamp", "When, UTC."),
    ),
)

TABLES: tuple[Table, ...] = (
    BRONZE_MESSAGES,
    SILVER_TRADES,
    SILVER_QUARANTINE,
    SILVER_FEED_EVENTS,
    SILVER_CONTINUITY,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    OPS_BATCHES,
    OPS_CHECKS,
    OPS_REPLAYS,
)
BY_PATH: dict[str, Table] = {table.path: table for table in TABLES}
