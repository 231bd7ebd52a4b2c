"""One-minute bars from Silver, at one of its versions: the only part of Gold that reads trades."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import lake
from lakehouse.id_ranges import IdRange
from lakehouse.presence import Key
from lakehouse.settings import Settings
from lakehouse.streams.gold_complete import IdGroup, ranges_of
from lakehouse.streams.gold_rows import UTC_MICROS, Place
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.bars import bars_from_trades, window_start
from lakehouse.transforms.islands import islands
from lakehouse.transforms.time_ranges import TimeRange, in_ranges, time_ranges

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MINUTE = dt.timedelta(minutes=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Touched:
    """What a batch of trades touches: minutes with the ids that they get, and the newest trade of each symbol."""

    def __init__(self, trades: DataFrame) -> None:
        from pyspark.sql import functions as F  # noqa: N812

        rows = (
            trades.groupBy("venue", "symbol", window_start(F.col("ts_event"), 1).alias("minute"))
            .agg(
                F.min("trade_id").alias("lowest"),
                F.max("trade_id").alias("highest"),
                F.count("*").alias("ids"),
                F.unix_micros(F.max("ts_event")).alias("newest"),
            )
            .withColumn("minute", F.unix_micros("minute"))
            .toArrow()
        )
        names = ("venue", "symbol", "minute", "lowest", "highest", "ids", "newest")
        self._trades = trades
        self.minutes: dict[Place, IdGroup] = {}
        self.newest: dict[Key, int] = {}  #: microseconds since the epoch
        for venue, symbol, start, lowest, highest, ids, newest in zip(
            *(rows.column(name).to_pylist() for name in names), strict=True
        ):
            self.minutes[venue, symbol, start] = IdGroup(lowest, highest, ids)
            self.newest[venue, symbol] = max(newest, self.newest.get((venue, symbol), newest))

    @property
    def trades(self) -> int:
        """How many."""
        return sum(group.ids for group in self.minutes.values())

    def ids(self) -> dict[Key, list[IdRange]]:
        """Their ids as ranges. Counts tell them where a batch left none out; the others cost a job of Spark."""
        from pyspark.sql import functions as F  # noqa: N812

        groups: dict[Key, list[IdGroup]] = {}
        for (venue, symbol, _), group in self.minutes.items():
            groups.setdefault((venue, symbol), []).append(group)
        found: dict[Key, list[IdRange]] = {}
        unsure: list[Key] = []
        for key, of_key in groups.items():
            ranges = ranges_of(of_key)
            if ranges is None:
                unsure.append(key)
            else:
                found[key] = ranges
        if unsure:
            names = ["|".join(key) for key in unsure]
            rows = islands(self._trades.where(F.concat_ws("|", "venue", "symbol").isin(names)))
            for row in rows.select("venue", "symbol", "first_id", "last_id").collect():
                found.setdefault((row["venue"], row["symbol"]), []).append((row["first_id"], row["last_id"]))
        return found


def ranges_around(starts: Collection[int], length: dt.timedelta, slack: dt.timedelta) -> list[TimeRange]:
    """Few time ranges that hold windows, given by their starts in microseconds since the epoch, widened by `slack`."""
    return time_ranges((_EPOCH + dt.timedelta(microseconds=start) for start in set(starts)), length, slack)


def minute_bars(
    spark: SparkSession,
    settings: Settings,
    version: int,
    ranges: Sequence[TimeRange],
    places: Collection[Place] | None = None,
) -> pa.Table:
    """The one-minute bars of Silver at a version, of the trades in some ranges; of some places only, where given.

    BAR_KEY and BAR_VALUES.
    """
    from pyspark.sql import functions as F  # noqa: N812

    silver = spark.read.format("delta").option("versionAsOf", version).load(lake.table_uri(settings, SILVER_TRADES))
    trades = silver.where(in_ranges(ranges))
    if places is not None:
        ordered = sorted(places)
        wanted = pa.table(
            {
                "venue": [place[0] for place in ordered],
                "symbol": [place[1] for place in ordered],
                "minute": pa.array([place[2] for place in ordered], pa.int64()).cast(UTC_MICROS),
            }
        )
        trades = trades.withColumn("minute", window_start(F.col("ts_event"), 1)).join(
            F.broadcast(spark.createDataFrame(wanted)), ["venue", "symbol", "minute"], "left_semi"
        )
    bars: pa.Table = bars_from_trades(trades).toArrow()
    return bars
