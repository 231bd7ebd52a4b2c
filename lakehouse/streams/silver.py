"""bronze/messages → silver/trades, silver/quarantine, silver/feed_events.

Guarantee: each trade once, for ever. An id above the high-water mark of its (venue, symbol) cannot be in the table yet,
since this is its single writer: it is appended. Any other goes through an insert-only MERGE on (venue, symbol,
trade_id). So a batch that runs again, a replayed topic, a repair a month later and a lost checkpoint add nothing.
Insert-only keeps the table a stream for Gold. Every message ends in exactly one of: a trade, a duplicate, a feed event,
a row in quarantine.
Gap: the same id with other content counts as a duplicate of what came first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.checkpoints import delta_position
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from lakehouse.transforms import parse

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Key = tuple[str, str]

#: A batch reads whole versions of Bronze up to this size, so that a catch-up neither starves nor swamps the driver.
MAX_BYTES_PER_TRIGGER = "64m"

#: Below this a batch becomes one file a day; above, Spark's partitions are written side by side.
SMALL_BATCH_ROWS = 200_000


class HighWaterMarks:
    """The greatest trade id of each (venue, symbol) in silver/trades; kept by its single writer."""

    def __init__(self, settings: Settings) -> None:
        rows = lake.sql(
            settings,
            "SELECT venue, symbol, max(trade_id) AS mark FROM trades GROUP BY venue, symbol",
            trades=SILVER_TRADES,
        ).to_pylist()
        self._marks: dict[Key, int] = {(row["venue"], row["symbol"]): int(row["mark"]) for row in rows}

    def of(self, key: Key) -> int:
        """The mark of a key; -1 where it has no trade yet."""
        return self._marks.get(key, -1)

    def raise_to(self, key: Key, trade_id: int) -> None:
        """Move a mark up, never down."""
        self._marks[key] = max(self.of(key), trade_id)


@dataclass(frozen=True)
class _KeySpan:
    """Trades of one (venue, symbol) in a batch: how many, and between which ids."""

    key: Key
    rows: int
    lowest: int
    highest: int


@dataclass(frozen=True)
class _Contents:
    """What a parsed batch holds, from one pass over it."""

    spans: tuple[_KeySpan, ...]
    rows: int
    trades: int
    quarantined: int
    feed_events: int


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """The Delta source over Bronze."""
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .load(lake.table_uri(context.settings, BRONZE_MESSAGES))
    )


def write_batch(messages: DataFrame, batch_id: int, context: BatchContext, marks: HighWaterMarks) -> BatchResult:
    """1 parse, 2 trades above the marks appended, 3 the others merged, 4 quarantine and feed events, 5 marks raised."""
    from pyspark import StorageLevel

    settings = context.settings
    parsed = parse.parse_messages(messages, settings).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        contents = _contents(parsed)
        inserted = _insert_trades(parsed, contents, batch_id, context, marks) if contents.trades else 0
        if contents.quarantined:
            merge_by_offset(parse.quarantine(parsed, settings), SILVER_QUARANTINE, settings)
        if contents.feed_events:
            merge_by_offset(parse.feed_events(parsed), SILVER_FEED_EVENTS, settings)
    finally:
        parsed.unpersist()
    for span in contents.spans:
        marks.raise_to(span.key, span.highest)
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS)
    return BatchResult(
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=delta_position(context.checkpoint.offset(batch_id)),
        rows_in=contents.rows,
        rows_out=inserted,
        rows_duplicate=contents.trades - inserted,
        rows_quarantined=contents.quarantined,
        rows_feed_events=contents.feed_events,
        versions={table.path: lake.open_table(settings, table).version() for table in tables},
    )


def _contents(parsed: DataFrame) -> _Contents:
    from pyspark.sql import functions as F  # noqa: N812

    is_trade = F.col("kind") == "trade"
    trade_id = F.when(is_trade, F.col("m.trade_id").cast("bigint"))
    rows = (
        parsed.groupBy(
            "kind",
            F.when(is_trade, F.col("m.venue")).alias("venue"),
            F.when(is_trade, F.col("m.symbol")).alias("symbol"),
        )
        .agg(F.count("*").alias("n"), F.min(trade_id).alias("lowest"), F.max(trade_id).alias("highest"))
        .collect()
    )
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["kind"]] = counts.get(row["kind"], 0) + row["n"]
    spans = tuple(
        _KeySpan((row["venue"], row["symbol"]), row["n"], row["lowest"], row["highest"])
        for row in rows
        if row["kind"] == "trade"
    )
    return _Contents(
        spans,
        sum(counts.values()),
        counts.get("trade", 0),
        counts.get("quarantine", 0),
        counts.get("feed_event", 0),
    )


def _insert_trades(
    parsed: DataFrame, contents: _Contents, batch_id: int, context: BatchContext, marks: HighWaterMarks
) -> int:
    """Insert the trades that are not there yet and return how many this batch has put into the table."""
    from pyspark.sql import functions as F  # noqa: N812

    settings = context.settings
    app_id = context.app_id(SILVER_TRADES)
    rows = parse.first_of_key(parse.trades(parsed))
    if contents.trades <= SMALL_BATCH_ROWS:
        rows = rows.coalesce(1)
    old = [span for span in contents.spans if span.lowest <= marks.of(span.key)]
    if batch_id == context.pending_batch:  # an earlier process may have got anywhere with it
        _merge_trades(rows, contents.spans, settings)
        return _rows_of_batch(parsed, settings)
    if not old:
        return _append(rows, batch_id, app_id, settings)
    mark = _mark_column(contents.spans, marks)
    appended = _append(rows.where(F.col("trade_id") > mark), batch_id, app_id, settings)
    return appended + _merge_trades(rows.where(F.col("trade_id") <= mark), contents.spans, settings)


def _mark_column(spans: tuple[_KeySpan, ...], marks: HighWaterMarks) -> Any:
    """The high-water mark of a row's key, as a column."""
    from pyspark.sql import functions as F  # noqa: N812

    pairs: list[Any] = []
    for span in spans:
        pairs += [F.lit("|".join(span.key)), F.lit(marks.of(span.key))]
    return F.create_map(*pairs)[F.concat_ws("|", "venue", "symbol")]


def _append(rows: DataFrame, batch_id: int, app_id: str, settings: Settings) -> int:
    before = lake.open_table(settings, SILVER_TRADES).version()
    (
        rows.write.format("delta")
        .mode("append")
        .option("txnAppId", app_id)
        .option("txnVersion", batch_id)
        .partitionBy(*SILVER_TRADES.partition_by)
        .save(lake.table_uri(settings, SILVER_TRADES))
    )
    return _added_rows(settings, before, "numOutputRows")


def _merge_trades(rows: DataFrame, spans: tuple[_KeySpan, ...], settings: Settings) -> int:
    """Insert-only MERGE. The batch's ids stand in the condition as literals, so files without them are skipped."""
    from delta.tables import DeltaTable

    before = lake.open_table(settings, SILVER_TRADES).version()
    lowest, highest = min(span.lowest for span in spans), max(span.highest for span in spans)
    same_key = " AND ".join(f"t.{name} = s.{name}" for name in SILVER_TRADES.key)
    (
        DeltaTable.forPath(rows.sparkSession, lake.table_uri(settings, SILVER_TRADES))
        .alias("t")
        .merge(rows.alias("s"), f"{same_key} AND t.trade_id >= {lowest} AND t.trade_id <= {highest}")
        .whenNotMatchedInsertAll()
        .execute()
    )
    return _added_rows(settings, before, "numTargetRowsInserted")


def _added_rows(settings: Settings, before: int, metric: str) -> int:
    """Rows that the commit after version `before` added; 0 where nothing was committed."""
    table = lake.open_table(settings, SILVER_TRADES)
    if table.version() == before:
        return 0
    return int(table.history(1)[0]["operationMetrics"][metric])


def _rows_of_batch(parsed: DataFrame, settings: Settings) -> int:
    """Rows of silver/trades that come from this batch's messages: the count of a batch that runs a second time."""
    from pyspark.sql import functions as F  # noqa: N812

    silver = parsed.sparkSession.read.format("delta").load(lake.table_uri(settings, SILVER_TRADES))
    offsets = parsed.where(F.col("kind") == "trade").select(
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
    )
    return silver.join(offsets, list(offsets.columns), "left_semi").count()


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
