"""What Silver holds of Bronze up to a version, by today's parser and rules: the streams' own functions over one batch.

Guarantee: the rows depend on Bronze and the rules alone. Of messages with the same (venue, symbol, trade_id) the first
by Kafka position is the trade, as in a batch of the stream. Nothing is written here.
Cost: Bronze is parsed two to four times; what is kept in between lies on disk, compressed by Spark, not in memory.
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

#: The tables that a rebuild writes from Bronze. The trades come last: they are what Gold reads.
TABLES = (SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_TRADES)

#: Rows of a file, about 30 MB. Files hold one stretch of time each, so that readers skip the others.
ROWS_PER_FILE = 500_000

#: Messages that one task of a shuffle handles.
ROWS_PER_TASK = 500_000

#: By what time the rows of a table lie in its files.
_TIMES = {SILVER_TRADES.path: "ts_event", SILVER_QUARANTINE.path: "ts_kafka", SILVER_FEED_EVENTS.path: "ts_event"}


@dataclass(frozen=True)
class Fingerprint:
    """Tells two sets of rows apart, in any order: their number, and two sums of 64-bit hashes over all columns."""

    rows: int
    first: int
    second: int


@dataclass(frozen=True)
class Contents:
    """Silver as it is to be. `places` says where the messages of each Kafka partition ended."""

    rows: dict[str, DataFrame]  #: table path → rows in its schema
    places: dict[PartitionKey, PartitionRows]
    rules: dict[str, int]  #: rule → messages in quarantine

    def fingerprint(self, table: Table) -> Fingerprint:
        """Of the rows of one of TABLES."""
        return fingerprint(self.rows[table.path], table)

    def laid_out(self, table: Table, count: int) -> DataFrame:
        """The `count` rows of a table in few files, each with one stretch of time."""
        rows, order = self.rows[table.path], (table.partition_by[0], _TIMES[table.path])
        files = math.ceil(count / ROWS_PER_FILE)
        spread = rows.repartitionByRange(files, *order) if files > 1 else rows.coalesce(1)
        return spread.sortWithinPartitions(*order)

    def words(self) -> dict[MarketKey, News]:
        """What ingest has ever said of missing ids."""
        news: dict[MarketKey, News] = {}
        add_words(news, self.rows[SILVER_FEED_EVENTS.path])
        return news


@contextlib.contextmanager
def contents(spark: SparkSession, settings: Settings, bronze_version: int) -> Iterator[Contents]:
    """Compute Silver from all messages of Bronze at a version; what Spark keeps of it goes with the block."""
    messages = (
        spark.read.format("delta")
        .option("versionAsOf", bronze_version)
        .load(table_io.table_uri(settings, BRONZE_MESSAGES))
    )
    count = table_io.row_count(table_io.open_table(settings, BRONZE_MESSAGES, bronze_version))
    with _tasks(spark, math.ceil(count / ROWS_PER_TASK)), contextlib.ExitStack() as stack:
        yield _compute(messages, settings, stack)


def fingerprint(rows: DataFrame, table: Table) -> Fingerprint:
    """One pass over rows in a table's schema."""
    # Spark's hash passes over a null, so that whether a column is null is said beside it.
    columns = [
        column
        for one in table.columns
        for column in ([F.col(one.name), F.col(one.name).isNull()] if one.nullable else [F.col(one.name)])
    ]
    sums = [F.sum(F.xxhash64(F.lit(salt), *columns).cast("decimal(38,0)")) for salt in (1, 2)]
    row = rows.agg(F.count("*").alias("n"), sums[0].alias("a"), sums[1].alias("b")).collect()[0]
    return Fingerprint(row["n"], int(row["a"] or 0), int(row["b"] or 0))


def _compute(messages: DataFrame, settings: Settings, stack: contextlib.ExitStack) -> Contents:
    """As a batch of the stream: 1 parse, 2 each trade's first, 3 repeats compared, 4 quarantine and feed events."""
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
    """The rows of quarantine of the messages that are judged already: only those are parsed again."""
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
    """As many shuffle partitions as a history needs; the session's own number is for small batches."""
    name = "spark.sql.shuffle.partitions"
    before = spark.conf.get(name)
    assert before is not None
    spark.conf.set(name, str(max(int(before), wanted)))
    try:
        yield
    finally:
        spark.conf.set(name, before)
