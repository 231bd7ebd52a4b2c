"""Bronze and Silver: raw messages; clean trades, quarantine, feed events and the ledger of trade ids."""

from __future__ import annotations

from typing import Literal, get_args

from lakehouse.market.venues import in_words
from lakehouse.tables.model import DECIMAL, Column, Table

#: Closed set of feed events, in the order of a connection's life.
FeedEventKind = Literal[
    "connected",
    "subscribed",
    "subscription_refused",
    "unsubscribed",
    "venue_error",
    "clock_skew",
    "stale",
    "disconnected",
    "gap_opened",
    "gap_repaired",
    "gap_unavailable",
]


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
        Column("venue", "string", f"Exchange: {in_words('or')}."),
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
        Column("detail", "string", "The value that was found, and the one that was expected."),
        Column("venue", "string", "Venue, if it could be read.", nullable=True),
        Column("symbol", "string", "Canonical symbol, if it could be read.", nullable=True),
        Column("trade_id", "bigint", "Trade id, if it could be read.", nullable=True),
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
        Column("event", "string", f"{', '.join(get_args(FeedEventKind))}."),
        Column("ts_event", "timestamp", "When ingest saw it, UTC."),
        Column("connection_id", "string", "Ingest's own id of the connection."),
        Column("symbol", "string", "Canonical symbol, if the event is about one.", nullable=True),
        Column("first_id", "bigint", "First missing trade id of a gap event.", nullable=True),
        Column("last_id", "bigint", "Last missing trade id of a gap event, inclusive.", nullable=True),
        Column("detail", "string", "Explanation for people."),
        *_offsets(),
        Column("event_date", "date", "UTC date of ts_event."),
    ),
)

SILVER_CONTINUITY = Table(
    layer="silver",
    name="continuity",
    grain="One row per contiguous trade id range of (venue, symbol): present, open gap or unavailable.",
    key=("venue", "symbol", "first_id"),
    partition_by=(),
    columns=(
        Column("venue", "string", "Exchange."),
        Column("symbol", "string", "Canonical symbol."),
        Column("first_id", "bigint", "First trade id of the range."),
        Column("last_id", "bigint", "Last trade id of the range, inclusive. The next range begins right after it."),
        Column(
            "state",
            "string",
            "present: every id is in silver/trades. open: known to exist but missing, to be repaired. "
            "unavailable: the venue did not have them in `tries` answers; they may still come.",
        ),
        Column(
            "ts_first",
            "timestamp",
            "Time of the trade first_id; for a gap, of the trade before it, if known.",
            nullable=True,
        ),
        Column(
            "ts_last",
            "timestamp",
            "Time of the trade last_id; for a gap, of the trade after it, if known.",
            nullable=True,
        ),
        Column(
            "since",
            "timestamp",
            "When the ledger first held the range in this state; for an unavailable range, when the venue first "
            "answered without it. UTC.",
        ),
        Column("repaired", "bigint", "Ids of the range that came over REST; 0 for a gap."),
        Column("trades_version", "bigint", "Version of silver/trades that all rows of this table describe."),
        Column(
            "tries",
            "bigint",
            "Answers of the venue without an unavailable range, a minute or more apart. Null for another state, and in "
            "a ledger from before tries were counted, where it means 1.",
            nullable=True,
        ),
        Column(
            "last_try",
            "timestamp",
            "When the last of these answers came, UTC. Null if `tries` is; then `since` takes its place.",
            nullable=True,
        ),
    ),
)
