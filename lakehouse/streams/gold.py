"""silver/trades → gold/bars_1m, gold/bars_5m.

Guarantee: Gold is a pure function of Silver. A batch names the windows it touches; their bars are recomputed from
Silver, as of the version at which the batch ends, and upserted. So late and replayed trades, a batch that runs again
and a lost checkpoint end in the same bars. A bar's `complete` is a function of Silver at that version too, whichever
window the trade that proves it lies in (`gold_complete`). `revision` counts the changes of a bar's content.
Each commit names the version of Silver that its bars are of, so that a second writer which lags behind (a run that was
taken for dead) cannot put older bars over newer ones: it fails instead.
Gap: a batch that ends inside a version of Silver (a catch-up in several steps) reads that version whole; the steps that
follow touch the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import CommitProperties, Transaction

from lakehouse import lake
from lakehouse.errors import RetriableError
from lakehouse.id_ranges import IdRange
from lakehouse.presence import Key
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.gold_complete import BAR_TABLES, Completeness, IdGroup, Window, ranges_of
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES, Table
from lakehouse.transforms.bars import BAR_KEY, BAR_VALUES, bars_from_trades, longer_bars, window_start
from lakehouse.transforms.islands import islands
from lakehouse.transforms.time_ranges import in_ranges, time_ranges

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MAX_BYTES_PER_TRIGGER = "256m"

#: All bar sizes are folded from the one-minute bars of the touched windows of this length, in minutes.
WINDOW_MINUTES = 5

#: A bar whose content differs in one of these gets a new revision.
COMPARED = (*BAR_VALUES, "complete")

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UTC_MICROS = pa.timestamp("us", tz="UTC")


class StaleBatchError(RetriableError):
    """Gold has been written from a newer Silver than this batch's."""


class Knowledge:
    """What a Gold query keeps between its batches; made with the first one, from the tables."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._completeness: Completeness | None = None

    def after(self, version: int) -> Completeness:
        """Which bars are complete after the last batch, which ended at (or inside) a version of Silver."""
        if self._completeness is None:
            self._completeness = Completeness.at(self._settings, version)
        return self._completeness

    @cached_property
    def app_id(self) -> str:
        """Delta's application id of Gold's commits: of this Silver, since another one counts its versions anew."""
        return f"lakehouse/gold/{lake.open_table(self._settings, SILVER_TRADES).metadata().id}"


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """The Delta source over Silver, which only ever gets new rows."""
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .load(lake.table_uri(context.settings, SILVER_TRADES))
    )


def write_batch(trades: DataFrame, batch_id: int, context: BatchContext, knowledge: Knowledge) -> BatchResult:
    """1 the touched windows, 2 the windows of bars that became complete, 3 their bars from Silver, 4 upsert."""
    settings = context.settings
    start = delta_position(context.checkpoint.offset(batch_id - 1))
    end = delta_position(context.checkpoint.offset(batch_id))
    completeness = knowledge.after(start["version"])
    touched = touched_windows(trades)
    if not end["complete"]:  # the bars are read at all of that version, of which this batch has only a part
        completeness.read_up_to(settings, end["version"])
    elif end["version"] > completeness.version:
        completeness.add(_ids(trades, touched), end["version"])
    windows = set(touched) | completeness.take_due(WINDOW_MINUTES)
    written: dict[str, int] = {}
    if windows:
        bars = _bars(trades.sparkSession, windows, end["version"], settings)
        of_silver = Transaction(knowledge.app_id, end["version"])
        for (table, minutes), rows in zip(BAR_TABLES, bars, strict=True):
            written[table.path] = upsert(settings, table, completeness.with_flags(rows, minutes), of_silver)
    return BatchResult(
        source_start=start,
        source_end=end,
        rows_in=sum(group.ids for group in touched.values()),
        rows_out=written.get(GOLD_BARS_1M.path, 0),
        versions={table.path: lake.open_table(settings, table).version() for table in (GOLD_BARS_1M, GOLD_BARS_5M)},
    )


def touched_windows(trades: DataFrame) -> dict[Window, IdGroup]:
    """The windows that a batch's trades lie in, with the ids that they bring there."""
    from pyspark.sql import functions as F  # noqa: N812

    rows = (
        trades.groupBy("venue", "symbol", window_start(F.col("ts_event"), WINDOW_MINUTES).alias("window"))
        .agg(F.min("trade_id").alias("lowest"), F.max("trade_id").alias("highest"), F.count("*").alias("ids"))
        .select("venue", "symbol", F.unix_micros("window").alias("window"), "lowest", "highest", "ids")
        .toArrow()
    )
    columns = [column.to_pylist() for column in rows.columns]
    return {Window((venue, symbol), start): IdGroup(*ids) for venue, symbol, start, *ids in zip(*columns, strict=True)}


def _ids(trades: DataFrame, touched: dict[Window, IdGroup]) -> dict[Key, list[IdRange]]:
    """The ids of a batch as ranges. Counts tell them where a batch left none out; the others cost a job of Spark."""
    from pyspark.sql import functions as F  # noqa: N812

    groups: dict[Key, list[IdGroup]] = {}
    for window, group in touched.items():
        groups.setdefault(window.key, []).append(group)
    ids: dict[Key, list[IdRange]] = {}
    unsure: list[Key] = []
    for key, of_key in groups.items():
        ranges = ranges_of(of_key)
        if ranges is None:
            unsure.append(key)
        else:
            ids[key] = ranges
    if unsure:
        names = ["|".join(key) for key in unsure]
        rows = islands(trades.where(F.concat_ws("|", "venue", "symbol").isin(names)))
        for row in rows.select("venue", "symbol", "first_id", "last_id").collect():
            ids.setdefault((row["venue"], row["symbol"]), []).append((row["first_id"], row["last_id"]))
    return ids


def _bars(
    spark: SparkSession, windows: Collection[Window], version: int, settings: Settings
) -> tuple[pa.Table, pa.Table]:
    """The one- and five-minute bars of some windows, from Silver at a version."""
    from pyspark.sql import functions as F  # noqa: N812

    wanted = pa.table(
        {
            "venue": [window.key[0] for window in windows],
            "symbol": [window.key[1] for window in windows],
            "window": pa.array([window.start for window in windows], pa.int64()).cast(_UTC_MICROS),
        }
    )
    starts = {_EPOCH + dt.timedelta(microseconds=window.start) for window in windows}
    silver = spark.read.format("delta").option("versionAsOf", version).load(lake.table_uri(settings, SILVER_TRADES))
    trades = (
        silver.where(in_ranges(time_ranges(starts, dt.timedelta(minutes=WINDOW_MINUTES))))
        .withColumn("window", window_start(F.col("ts_event"), WINDOW_MINUTES))
        .join(F.broadcast(spark.createDataFrame(wanted)), list(wanted.column_names), "left_semi")
    )
    minute = bars_from_trades(trades).persist()
    try:
        return minute.toArrow(), longer_bars(minute, WINDOW_MINUTES).toArrow()
    finally:
        minute.unpersist()


def upsert(settings: Settings, table: Table, bars: pa.Table, of_silver: Transaction) -> int:
    """Insert new bars and update those whose content differs; returns how many rows were written.

    `of_silver` is the version of Silver that the bars are of. Raises StaleBatchError where the table has been written
    from a newer one; of two that write a day at the same moment, Delta lets only one through.
    deltalake commits a small Arrow table in a fiftieth of the time of Spark's MERGE (docs/adr/0002).
    """
    if bars.num_rows == 0:
        return 0
    target = lake.open_table(settings, table)
    newest = target.transaction_version(of_silver.app_id)
    if newest is not None and newest > of_silver.version:
        raise StaleBatchError(
            f"{table.path} is already of version {newest} of {SILVER_TRADES.path}, this batch of {of_silver.version}",
            "one stream at a time, with the newest checkpoint",
            "stop the other one; this one can be started again",
        )
    now = dt.datetime.now(dt.UTC)
    starts = bars.column("bar_start").cast(_UTC_MICROS)
    source = bars.set_column(bars.schema.get_field_index("bar_start"), "bar_start", starts)
    source = source.append_column("revision", pa.array([1] * bars.num_rows, pa.int64()))
    source = source.append_column("updated_at", pa.array([now] * bars.num_rows, _UTC_MICROS))
    source = source.append_column("bar_date", starts.cast(pa.date32()))
    source = source.select(list(table.column_names)).cast(lake.arrow_schema(table))
    dates = sorted({str(value) for value in source.column("bar_date").to_pylist()})
    in_dates = ", ".join(f"DATE '{date}'" for date in dates)
    same_key = " AND ".join(f"t.{name} = s.{name}" for name in (*BAR_KEY, "bar_date"))
    differs = " OR ".join(f"t.{name} <> s.{name}" for name in COMPARED)
    changes = {name: f"s.{name}" for name in (*COMPARED, "updated_at")}
    metrics = (
        target.merge(
            source,
            f"t.bar_date IN ({in_dates}) AND {same_key}",
            source_alias="s",
            target_alias="t",
            commit_properties=CommitProperties(app_transactions=[of_silver]),
        )
        .when_matched_update({**changes, "revision": "t.revision + 1"}, predicate=differs)
        .when_not_matched_insert({name: f"s.{name}" for name in table.column_names})
        .execute()
    )
    return int(metrics["num_target_rows_inserted"]) + int(metrics["num_target_rows_updated"])
