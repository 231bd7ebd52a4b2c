"""Compute Silver from Bronze up to a version, by today's parser and rules: the streams' own functions over one batch.

Guarantee: the rows depend on Bronze and the rules alone. The first message by Kafka position of each
(venue, symbol, trade_id) is the trade, as in a batch of the stream. Nothing is written here.
Cost: Bronze is parsed two to four times; intermediate rows lie on disk, compressed by Spark, not in memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import News
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import dedup
from lakehouse.streams.batch import PartitionRows, rows_by_place
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from lakehouse.transforms import parse

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Tables that a rebuild writes from Bronze. The trades come last, because Gold reads them.
TABLES = (SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_TRADES)

#: Most rows of a file, about 30 MB. Each file holds one stretch of time, so that readers can skip files.
ROWS_PER_FILE = 500_000

#: Messages of Bronze for each task of a Spark shuffle.
ROWS_PER_TASK = 500_000

#: Time column by which the rows of a table are laid out in its files.
_TIMES = {SILVER_TRADES.path: "ts_event", SILVER_QUARANTINE.path: "ts_kafka", SILVER_FEED_EVENTS.path: "ts_event"}


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of a set of rows in any order: their number, and two sums of 64-bit hashes over all columns."""

    rows: int
    first: int
    second: int


@dataclass(frozen=True)
class Contents:
    """Silver as it should be, not written yet. `places` counts what became of the messages of each Kafka partition."""

    rows: dict[str, DataFrame]  #: table path → rows in its schema
    places: dict[PartitionKey, PartitionRows]
    rules: dict[str, int]  #: rule → messages in quarantine

    def fingerprint(self, table: Table) -> Fingerprint:
        """Compute the fingerprint of the new rows of one of TABLES, to compare it with that of the rows there."""
        return fingerprint(self.rows[table.path], table)

    def laid_out(self, table: Table, count: int) -> DataFrame:
        """Return the new rows of a table, `count` in all, partitioned and sorted for few files of one stretch each.

        A stretch is by the partition's date and the table's time.
        """
        rows, order = self.rows[table.path], (table.partition_by[0], _TIMES[table.path])
        files = math.ceil(count / ROWS_PER_FILE)
        spread = rows.repartitionByRange(files, *order) if files > 1 else rows.coalesce(1)
        return spread.sortWithinPartitions(*order)

    def words(self) -> dict[MarketKey, News]:
        """Collect, by (venue, symbol), all that ingest has ever reported about missing trade ids in feed events."""
        news: dict[MarketKey, News] = {}
        add_words(news, self.rows[SILVER_FEED_EVENTS.path].toArrow())
        return news


@contextlib.contextmanager
def contents(spark: SparkSession, settings: Settings, bronze_version: int) -> Iterator[Contents]:
    """Compute Silver from all messages of Bronze at a version, and yield it; it can be read until the block ends.

    Intermediate rows lie in Spark's files, which the end of the block frees.
    """
    messages = (
        spark.read.format("delta")
        .option("versionAsOf", bronze_version)
        .load(table_io.table_uri(settings, BRONZE_MESSAGES))
    )
    count = table_io.row_count(table_io.open_table(settings, BRONZE_MESSAGES, bronze_version))
    with _tasks(spark, math.ceil(count / ROWS_PER_TASK)), contextlib.ExitStack() as stack:
        yield _compute(messages, settings, stack)


def fingerprint(rows: DataFrame, table: Table) -> Fingerprint:
    """Compute the fingerprint of rows in a table's schema, in one pass."""
    # Spark's hash skips nulls, so a nullable column also contributes a flag for null.
    columns = [
        column
        for one in table.columns
        for column in ([F.col(one.name), F.col(one.name).isNull()] if one.nullable else [F.col(one.name)])
    ]
    sums = [F.sum(F.xxhash64(F.lit(salt), *columns).cast("decimal(38,0)")) for salt in (1, 2)]
    row = rows.agg(F.count("*").alias("n"), sums[0].alias("a"), sums[1].alias("b")).collect()[0]
    return Fingerprint(row["n"], int(row["a"] or 0), int(row["b"] or 0))


def _compute(messages: DataFrame, settings: Settings, stack: contextlib.ExitStack) -> Contents:
    """Compute the rows of all tables from messages, as a stream's batch does: each trade's first message counts."""
    parsed = parse.parse_messages(messages, settings)
    trades = _kept(parse.trades(parsed), stack)
    fresh = _kept(parse.first_of_key(trades), stack)
    refused = _kept(parse.quarantine(parsed, settings), stack)
    events = _kept(parse.feed_events(parsed), stack)
    good, added = dedup.by_partition(trades), dedup.by_partition(fresh)
    unread = dedup.by_partition(refused)
    conflicts: dict[PartitionKey, int] = {}
    quarantine = refused
    if sum(good.values()) > sum(added.values()):
        found = _kept(dedup.conflicts(dedup.repeats(trades, fresh), fresh), stack)
        conflicts = dedup.by_partition(found)
    if conflicts:
        quarantine = _kept(refused.unionByName(_judged(messages, found, settings)), stack)
    return Contents(
        {SILVER_TRADES.path: fresh, SILVER_QUARANTINE.path: quarantine, SILVER_FEED_EVENTS.path: events},
        rows_by_place(good, added, conflicts, unread, dedup.by_partition(events)),
        {row["rule"]: row["count"] for row in quarantine.groupBy("rule").count().collect()},
    )


def _judged(messages: DataFrame, verdicts: DataFrame, settings: Settings) -> DataFrame:
    """Make quarantine rows of messages that are judged already: only those messages are parsed again."""
    places = verdicts.select(
        F.col("kafka_topic").alias("topic"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
    )
    theirs = messages.join(places, ["topic", "partition", "offset"], "left_semi")
    return parse.quarantined(parse.parse_messages(theirs, settings), verdicts)


def _kept(rows: DataFrame, stack: contextlib.ExitStack) -> DataFrame:
    from pyspark import StorageLevel

    kept = rows.persist(StorageLevel.DISK_ONLY)
    stack.callback(kept.unpersist)
    return kept


@contextlib.contextmanager
def _tasks(spark: SparkSession, wanted: int) -> Iterator[None]:
    """Set as many shuffle partitions as a history needs; the Spark session's own number is for small batches."""
    name = "spark.sql.shuffle.partitions"
    before = spark.conf.get(name)
    assert before is not None
    spark.conf.set(name, str(max(int(before), wanted)))
    try:
        yield
    finally:
        spark.conf.set(name, before)
