"""silver/trades → gold/bars_1m, gold/bars_5m.

Guarantee: Gold is a pure function of Silver. A batch names the windows it touches; their bars are recomputed from
Silver, as of the version at which the batch ends, and upserted. So late and replayed trades, a batch that runs again
and a lost checkpoint end in the same bars. `revision` counts the changes of a bar's content.
Gap: a batch that ends inside a version of Silver (a catch-up in several steps) reads that version whole; the steps that
follow touch the rest.
"""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import lake
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.checkpoints import delta_position
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES, Table
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, bars_from_trades, longer_bars, window_start

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MAX_BYTES_PER_TRIGGER = "256m"

#: All bar sizes are folded from the one-minute bars of the touched windows of this length, in minutes.
WINDOW_MINUTES = 5

#: At most so many time ranges stand in the filter on Silver; beyond, the nearest are joined into one.
MAX_RANGES = 50


@dataclass(frozen=True)
class TimeRange:
    """Event times, start inclusive, end exclusive."""

    start: dt.datetime
    end: dt.datetime


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """The Delta source over Silver, which only ever gets new rows."""
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .load(lake.table_uri(context.settings, SILVER_TRADES))
    )


def write_batch(trades: DataFrame, batch_id: int, context: BatchContext) -> BatchResult:
    """1 the touched windows, 2 their bars from Silver as of the batch's end, 3 upsert."""
    from pyspark.sql import functions as F  # noqa: N812

    settings = context.settings
    end = delta_position(context.checkpoint.offset(batch_id))
    touched = (
        trades.groupBy("venue", "symbol", window_start(F.col("ts_event"), WINDOW_MINUTES).alias("window"))
        .agg(F.count("*").alias("rows"))
        .persist()
    )
    try:
        windows = touched.groupBy("window").agg(F.sum("rows").alias("rows")).collect()
        rows_in = sum(int(row["rows"]) for row in windows)
        written = 0
        if windows:
            ranges = time_ranges({row["window"] for row in windows})
            minute, five = _bars(touched, ranges, end["version"], settings)
            written = upsert(settings, GOLD_BARS_1M, minute)
            upsert(settings, GOLD_BARS_5M, five)
    finally:
        touched.unpersist()
    return BatchResult(
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=end,
        rows_in=rows_in,
        rows_out=written,
        versions={table.path: lake.open_table(settings, table).version() for table in (GOLD_BARS_1M, GOLD_BARS_5M)},
    )


def _bars(touched: DataFrame, ranges: list[TimeRange], version: int, settings: Settings) -> tuple[pa.Table, pa.Table]:
    """The one- and five-minute bars of the touched windows, from Silver at a version."""
    from pyspark.sql import functions as F  # noqa: N812

    spark = touched.sparkSession
    silver = spark.read.format("delta").option("versionAsOf", version).load(lake.table_uri(settings, SILVER_TRADES))
    in_ranges = F.lit(False)
    for time_range in ranges:
        in_ranges = in_ranges | (
            (F.col("event_date") >= F.lit(time_range.start.date()))
            & (F.col("event_date") <= F.lit(time_range.end.date()))
            & (F.col("ts_event") >= F.lit(time_range.start))
            & (F.col("ts_event") < F.lit(time_range.end))
        )
    trades = (
        silver.where(in_ranges)
        .withColumn("window", window_start(F.col("ts_event"), WINDOW_MINUTES))
        .join(F.broadcast(touched.select("venue", "symbol", "window")), ["venue", "symbol", "window"], "left_semi")
    )
    minute = bars_from_trades(trades).persist()
    try:
        return minute.toArrow(), longer_bars(minute, WINDOW_MINUTES).toArrow()
    finally:
        minute.unpersist()


def time_ranges(windows: set[dt.datetime]) -> list[TimeRange]:
    """Windows joined where they touch, then, beyond MAX_RANGES, across the smallest gaps."""
    length = dt.timedelta(minutes=WINDOW_MINUTES)
    ranges: list[TimeRange] = []
    for start in sorted(window.astimezone(dt.UTC) for window in windows):
        if ranges and start <= ranges[-1].end:
            ranges[-1] = TimeRange(ranges[-1].start, start + length)
        else:
            ranges.append(TimeRange(start, start + length))
    if len(ranges) <= MAX_RANGES:
        return ranges
    by_gap = sorted(range(1, len(ranges)), key=lambda i: ranges[i].start - ranges[i - 1].end, reverse=True)
    cuts = sorted(by_gap[: MAX_RANGES - 1])
    bounds = [0, *cuts, len(ranges)]
    return [TimeRange(ranges[a].start, ranges[b - 1].end) for a, b in itertools.pairwise(bounds)]


def upsert(settings: Settings, table: Table, bars: pa.Table) -> int:
    """Insert new bars and update those whose content differs; returns how many rows were written.

    deltalake commits a small Arrow table in a fiftieth of the time of Spark's MERGE (docs/adr/0002).
    """
    if bars.num_rows == 0:
        return 0
    now = dt.datetime.now(dt.UTC)
    starts = bars.column("bar_start").cast(pa.timestamp("us", tz="UTC"))
    source = bars.set_column(bars.schema.get_field_index("bar_start"), "bar_start", starts)
    source = source.append_column("revision", pa.array([1] * bars.num_rows, pa.int64()))
    source = source.append_column("updated_at", pa.array([now] * bars.num_rows, pa.timestamp("us", tz="UTC")))
    source = source.append_column("bar_date", starts.cast(pa.date32()))
    source = source.select(list(table.column_names)).cast(lake.arrow_schema(table))
    dates = sorted({str(value) for value in source.column("bar_date").to_pylist()})
    in_dates = ", ".join(f"DATE '{date}'" for date in dates)
    same_key = " AND ".join(f"t.{name} = s.{name}" for name in (*BAR_KEY, "bar_date"))
    differs = " OR ".join(f"t.{name} <> s.{name}" for name in BAR_VALUES)
    changes = {name: f"s.{name}" for name in (*BAR_VALUES, "updated_at")}
    metrics = (
        lake.open_table(settings, table)
        .merge(source, f"t.bar_date IN ({in_dates}) AND {same_key}", source_alias="s", target_alias="t")
        .when_matched_update({**changes, "revision": "t.revision + 1"}, predicate=differs)
        .when_not_matched_insert({name: f"s.{name}" for name in table.column_names})
        .execute()
    )
    return int(metrics["num_target_rows_inserted"]) + int(metrics["num_target_rows_updated"])
