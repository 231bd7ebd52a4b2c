"""bronze/messages → silver/trades, silver/quarantine, silver/feed_events, silver/continuity.

Guarantee: each trade once, for ever. The ledger knows every id that is in the table; a batch appends the others and
nothing else. So a batch that runs again, a replayed topic, a repair a month later and a lost checkpoint add nothing.
Insert-only keeps the table a stream for Gold. Every message ends in exactly one of: a trade, a duplicate, a feed event,
a row in quarantine; the same id with other content goes to quarantine, the first one stays.
Two writers at once cannot double anything either: all appends share one Delta transaction id, so the second of two that
know the same state of the table fails, and starts again with the ledger of the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse import lake
from lakehouse.errors import RetriableError
from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.presence import Key
from lakehouse.settings import Settings
from lakehouse.streams import dedup
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, Place, rows_by_place
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.continuity import Ledger
from lakehouse.streams.segments import Arrival, News
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from lakehouse.transforms import parse
from lakehouse.transforms.islands import islands

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

#: A batch reads whole versions of Bronze up to this size, so that a catch-up neither starves nor swamps the driver.
MAX_BYTES_PER_TRIGGER = "64m"

#: Below this a batch becomes one file a day; above, Spark's partitions are written side by side.
SMALL_BATCH_ROWS = 200_000

#: Delta's application id of every commit of rows to silver/trades, by whomever.
APPENDS = "lakehouse/silver/trades"

#: Feed events that tell of missing ids.
CLAIM, GONE = "gap_opened", "gap_unavailable"


class OtherWriterError(RetriableError):
    """silver/trades has changed under the feet of its single writer."""


@dataclass(frozen=True)
class _Contents:
    """What a parsed batch holds, from one pass over it."""

    islands: tuple[Row, ...]
    others: tuple[Row, ...]  #: kind, kafka_topic, kafka_partition, rows of what is no trade

    @property
    def trades(self) -> int:
        return sum(row["rows"] for row in self.islands)

    @property
    def has_repeats(self) -> bool:
        return any(row["rows"] > row["ids"] for row in self.islands)

    def of_kind(self, kind: str) -> dict[Place, int]:
        return {(row["kafka_topic"], row["kafka_partition"]): row["rows"] for row in self.others if row["kind"] == kind}


@dataclass
class _Outcome:
    """What became of a batch's trades, by Kafka topic and partition, and what the ledger is to learn."""

    inserted: dict[Place, int] = field(default_factory=dict)
    conflicts: dict[Place, int] = field(default_factory=dict)
    arrived: tuple[Row, ...] = ()


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """The Delta source over Bronze."""
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .load(lake.table_uri(context.settings, BRONZE_MESSAGES))
    )


def write_batch(messages: DataFrame, batch_id: int, context: BatchContext, ledger: Ledger) -> BatchResult:
    """1 parse, 2 new trades appended, 3 repeats compared, 4 quarantine and feed events, 5 the ledger."""
    from pyspark import StorageLevel

    settings = context.settings
    parsed = parse.parse_messages(messages, settings).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        contents = _contents(parsed)
        pending = batch_id == context.pending_batch
        outcome = _take_trades(parsed, contents, pending, settings, ledger) if contents.trades else _Outcome()
        if contents.of_kind("quarantine"):
            merge_by_offset(parse.quarantine(parsed, settings), SILVER_QUARANTINE, settings)
        news = _news(outcome.arrived)
        if contents.of_kind("feed_event"):
            events = parse.feed_events(parsed)
            merge_by_offset(events, SILVER_FEED_EVENTS, settings)
            add_words(news, events)
        ledger.take(news, lake.open_table(settings, SILVER_TRADES).version())
    finally:
        parsed.unpersist()
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    return BatchResult.of_partitions(
        _ends(contents, outcome),
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=delta_position(context.checkpoint.offset(batch_id)),
        versions={table.path: lake.open_table(settings, table).version() for table in tables},
    )


def _contents(parsed: DataFrame) -> _Contents:
    """One job for both: islands of the trades, counts of the rest."""
    others = (
        parsed.where(F.col("kind") != "trade")
        .groupBy("kind", F.col("topic").alias("kafka_topic"), F.col("partition").alias("kafka_partition"))
        .agg(F.count("*").alias("rows"))
    )
    rows = (
        islands(parse.trades(parsed))
        .withColumn("kind", F.lit("trade"))
        .unionByName(others, allowMissingColumns=True)
        .collect()
    )
    return _Contents(
        tuple(row for row in rows if row["kind"] == "trade"), tuple(row for row in rows if row["kind"] != "trade")
    )


def _take_trades(parsed: DataFrame, contents: _Contents, pending: bool, settings: Settings, ledger: Ledger) -> _Outcome:
    """Append what is new, quarantine what conflicts."""
    trades = parse.trades(parsed)
    seen = _seen(contents.islands, ledger)
    expected = _new_ids(contents.islands, ledger)
    plain = not seen and not contents.has_repeats
    rows = trades if plain else dedup.fresh(trades, seen).persist()
    try:
        # Without repeats of earlier batches the islands of the whole batch are those of its new rows.
        arrived = contents.islands if not seen else tuple(islands(rows).collect()) if expected else ()
        if expected:
            write_trades(rows.coalesce(1) if contents.trades <= SMALL_BATCH_ROWS else rows, expected, settings)
        outcome = _Outcome(arrived=arrived)
        for row in arrived:
            place = row["kafka_topic"], row["kafka_partition"]
            outcome.inserted[place] = outcome.inserted.get(place, 0) + row["ids"]
        if contents.trades > expected:
            outcome.conflicts = _quarantine_conflicts(dedup.repeats(trades, rows), parsed, settings)
    finally:
        if not plain:
            rows.unpersist()
    if pending:  # an earlier process may have got anywhere with it: what counts is what the table holds of it
        outcome.inserted = dedup.inserted_by_partition(trades, settings)
    return outcome


def _seen(found: Sequence[Row], ledger: Ledger) -> list[tuple[Key, IdRange]]:
    """The parts of a batch's islands that are in the table already."""
    parts = {
        (row["venue"], row["symbol"], ids)
        for row in found
        for ids in ledger.present((row["venue"], row["symbol"])).within(row["first_id"], row["last_id"])
    }
    return [((venue, symbol), ids) for venue, symbol, ids in sorted(parts)]


def _new_ids(found: Sequence[Row], ledger: Ledger) -> int:
    """How many ids of a batch's islands are not in the table."""
    ids: dict[Key, IdRanges] = {}
    for row in found:
        ids.setdefault((row["venue"], row["symbol"]), IdRanges()).add(row["first_id"], row["last_id"])
    return sum(
        last - first + 1
        for key, ranges in ids.items()
        for start, end in ranges
        for first, last in ledger.present(key).missing(start, end)
    )


def write_trades(rows: DataFrame, expected: int, settings: Settings, mode: str = "append") -> None:
    """One commit to silver/trades with exactly `expected` rows; `mode` is append, or overwrite for a new whole.

    Raises OtherWriterError where somebody else has written meanwhile.
    """
    before = lake.open_table(settings, SILVER_TRADES)
    number = (before.transaction_version(APPENDS) or 0) + 1
    (
        rows.write.format("delta")
        .mode(mode)
        .option("txnAppId", APPENDS)
        .option("txnVersion", number)
        .partitionBy(*SILVER_TRADES.partition_by)
        .save(lake.table_uri(settings, SILVER_TRADES))
    )
    after = lake.open_table(settings, SILVER_TRADES)
    # A commit with a transaction version that the table has seen is skipped by Delta without a word.
    metrics = after.history(1)[0].get("operationMetrics", {}) if after.version() > before.version() else {}
    added = int(metrics.get("numOutputRows", 0))
    if added != expected or after.version() != before.version() + 1:
        raise OtherWriterError(
            f"{SILVER_TRADES.path} took {added:,} rows of this batch, in {after.version() - before.version()} commits",
            f"{expected:,} in one; another stream writes the same table",
            "stop one of them; this one can be started again",
        )


def _quarantine_conflicts(repeated: DataFrame, parsed: DataFrame, settings: Settings) -> dict[Place, int]:
    """Put the repeats with other content into quarantine and count them."""
    found = dedup.conflicts(repeated, dedup.near(repeated, settings)).persist()
    try:
        counts = dedup.by_partition(found)
        if counts:
            merge_by_offset(parse.quarantined(parsed, found), SILVER_QUARANTINE, settings)
        return counts
    finally:
        found.unpersist()


def _news(arrived: Sequence[Row]) -> dict[Key, News]:
    news: dict[Key, News] = {}
    for row in arrived:
        arrival = Arrival(row["first_id"], row["last_id"], row["ts_first"], row["ts_last"], row["repaired"])
        news.setdefault((row["venue"], row["symbol"]), News()).arrived.append(arrival)
    return news


def add_words(news: dict[Key, News], events: DataFrame) -> None:
    """Add what ingest says of missing ids, by rows of silver/feed_events. There are few: a gap is one, however wide."""
    gaps = events.where(
        F.col("event").isin(CLAIM, GONE) & F.col("symbol").isNotNull() & (F.col("first_id") <= F.col("last_id"))
    )
    for row in gaps.select("venue", "symbol", "event", "first_id", "last_id").collect():
        item = news.setdefault((row["venue"], row["symbol"]), News())
        (item.claimed if row["event"] == CLAIM else item.gone).append((row["first_id"], row["last_id"]))


def _ends(contents: _Contents, outcome: _Outcome) -> dict[Place, PartitionRows]:
    """Every message of the batch, by Kafka topic and partition and by where it ended."""
    trades: Counter[Place] = Counter()
    for row in contents.islands:
        trades[row["kafka_topic"], row["kafka_partition"]] += row["rows"]
    quarantined, events = contents.of_kind("quarantine"), contents.of_kind("feed_event")
    return rows_by_place(trades, outcome.inserted, outcome.conflicts, quarantined, events)


def merge_by_offset(rows: DataFrame, table: Table, settings: Settings) -> None:
    """Insert-only MERGE on the Kafka position, for the tables that seldom get a row."""
    from delta.tables import DeltaTable

    same_key = " AND ".join(f"t.{name} = s.{name}" for name in table.key)
    (
        DeltaTable.forPath(rows.sparkSession, lake.table_uri(settings, table))
        .alias("t")
        .merge(rows.coalesce(1).alias("s"), same_key)
        .whenNotMatchedInsertAll()
        .execute()
    )
