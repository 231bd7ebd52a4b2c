"""Repeats among the trades of a batch, and the conflicts among them: repeats of an id with other content.

`transforms/batch_ids.py` and the ledger tell which trades are new. Repeats are compared with the rows of silver/trades;
that reads only the files around the repeats' own times, because a repeat whose time differs is not the same trade. The
verdicts do not depend on what else is in a batch, so that a rebuild, which is one batch of everything, comes to the
same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F  # noqa: N812

from lakehouse.exchanges.registry import COARSEST_TIME_MICROS
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.arrow_numpy import integers
from lakehouse.transforms.time_ranges import in_ranges, sql_in_ranges, time_ranges

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


#: The columns that name a trade's message in Kafka.
POSITION = ("kafka_topic", "kafka_partition", "kafka_offset")

#: Times of the same trade may differ by less than this, in microseconds: a venue's REST history may give milliseconds
#: and its socket microseconds, so an exact comparison would call repairs conflicts.
SAME_TIME_MICROS = COARSEST_TIME_MICROS

#: Length of a window in minutes: silver/trades is read in the windows that have a repeat.
WINDOW_MINUTES = 5
_WINDOW_MICROS = WINDOW_MINUTES * 60_000_000
_WINDOW = dt.timedelta(minutes=WINDOW_MINUTES)
_SLACK = dt.timedelta(microseconds=SAME_TIME_MICROS)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: The columns that must agree in a repeat and its trade. The time is the last: it is compared in another way.
_CONTENT = ("price", "size", "side", "ts_event")

#: Number of rows of silver/trades that repeats are compared with at a time.
_JOIN_ROWS = 65_536


def same_as_kept(trades: pa.Table, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the trades whose content equals, as in `conflicts`, that of the row whose number is in `kept`.

    `kept` has for each trade the number of the row with the same key that is kept.
    """
    same = np.ones(trades.num_rows, np.bool_)
    for name in _CONTENT[:-1]:
        values = trades.column(name)
        same &= pc.equal(values, values.take(kept)).to_numpy()
    times = trades.column("ts_event").cast(pa.int64()).to_numpy()
    found: npt.NDArray[np.bool_] = same & (np.abs(times - times[kept]) < SAME_TIME_MICROS)
    return found


def unlike_silver(repeated: pa.Table, settings: Settings) -> npt.NDArray[np.bool_]:
    """Return a mask of the repeats whose content differs, as in `conflicts`, from their id's row in silver/trades.

    Most repeats do not differ, so that Spark is asked about few, or none. Reads the rows that `near` reads.
    """
    names = (*SILVER_TRADES.key, *_CONTENT)
    rows = repeated.select(names).append_column("row", pa.array(np.arange(repeated.num_rows)))
    unlike = np.ones(repeated.num_rows, np.bool_)
    windows = np.unique(rows.column("ts_event").cast(pa.int64()).to_numpy() // _WINDOW_MICROS) * _WINDOW_MICROS
    starts = (_EPOCH + dt.timedelta(microseconds=start) for start in windows.tolist())
    times = sql_in_ranges(time_ranges(starts, _WINDOW, _SLACK))
    query = f"SELECT {', '.join(names)} FROM t WHERE {times}"
    for some in _chunks(table_io.sql_batches(settings, query, t=SILVER_TRADES)):
        its = some.rename_columns([name if name in SILVER_TRADES.key else f"its_{name}" for name in names])
        pairs = rows.join(its, list(SILVER_TRADES.key), join_type="inner")
        same = np.ones(pairs.num_rows, np.bool_)
        for name in _CONTENT[:-1]:
            same &= pc.equal(pairs.column(name), pairs.column(f"its_{name}")).to_numpy()
        distance = integers(pairs.column("ts_event")) - integers(pairs.column("its_ts_event"))
        unlike[pairs.column("row").to_numpy()[same & (np.abs(distance) < SAME_TIME_MICROS)]] = False
    return unlike


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join record batches to tables of at least _JOIN_ROWS rows, but for the last, in the types of silver/trades."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _JOIN_ROWS:
            yield _typed(waiting)
            waiting, rows = [], 0
    if rows:
        yield _typed(waiting)


def _typed(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    schema = table_io.arrow_schema(SILVER_TRADES)
    return table.cast(pa.schema([schema.field(name) for name in table.column_names]))


def repeats(trades: DataFrame, inserted: DataFrame) -> DataFrame:
    """Return the trades of a batch that were not inserted by it."""
    return trades.join(inserted.select(*POSITION), list(POSITION), "left_anti")


def conflicts(repeated: DataFrame, kept: DataFrame) -> DataFrame:
    """Return the repeats that differ from the trade that was kept, as POSITION with rule and detail for quarantine.

    `kept` holds at least the trades of silver/trades that are `near` the repeats. Price, size and side are compared by
    value; times are the same if they differ by less than SAME_TIME_MICROS.
    """
    there = kept.select(*SILVER_TRADES.key, *(F.col(name).alias(f"its_{name}") for name in _CONTENT))
    distance = F.abs(F.unix_micros("ts_event") - F.unix_micros("its_ts_event"))
    same = (
        (F.col("price") == F.col("its_price"))
        & (F.col("size") == F.col("its_size"))
        & (F.col("side") == F.col("its_side"))
        & (distance < SAME_TIME_MICROS)
    )
    found = F.concat_ws(" ", "side", _plain("size"), F.lit("at"), _plain("price"), F.col("ts_event").cast("string"))
    its = F.concat_ws(
        " ", "its_side", _plain("its_size"), F.lit("at"), _plain("its_price"), F.col("its_ts_event").cast("string")
    )
    # True for trades that `near` reads for this repeat alone, so that the detail does not depend on other repeats.
    into_window = F.unix_micros("its_ts_event") - F.unix_micros("ts_event") + F.unix_micros("ts_event") % _WINDOW_MICROS
    is_near = (into_window >= -SAME_TIME_MICROS) & (into_window < _WINDOW_MICROS + SAME_TIME_MICROS)
    expected = F.when(is_near, its).otherwise(F.lit("another time"))
    return (
        repeated.join(there, list(SILVER_TRADES.key), "left")
        .where(~F.coalesce(same, F.lit(False)))
        .select(
            *POSITION,
            F.lit("conflict").alias("rule"),
            F.concat(F.lit("found "), found, F.lit("; the trade of this id is "), expected).alias("detail"),
        )
    )


def inserted_by_partition(trades: DataFrame, settings: Settings) -> dict[tuple[str, int], int]:
    """Count the trades of these messages that are in silver/trades, by Kafka topic and partition."""
    there = near(trades, settings).select(*POSITION)
    rows = trades.select(*POSITION).join(there, list(POSITION), "left_semi")
    return by_partition(rows)


def by_partition(rows: DataFrame) -> dict[tuple[str, int], int]:
    """Count rows by Kafka topic and partition."""
    counts = rows.groupBy("kafka_topic", "kafka_partition").agg(F.count("*").alias("n")).collect()
    return {(row["kafka_topic"], row["kafka_partition"]): row["n"] for row in counts}


def near(trades: DataFrame, settings: Settings) -> DataFrame:
    """Return the rows of silver/trades around the times of some trades: their windows, widened by SAME_TIME_MICROS."""
    window = F.window("ts_event", f"{WINDOW_MINUTES} minutes").getField("start")
    starts: Iterable[dt.datetime] = {row["w"] for row in trades.select(window.alias("w")).distinct().collect()}
    ranges = time_ranges(starts, _WINDOW, _SLACK)
    silver = trades.sparkSession.read.format("delta").load(table_io.table_uri(settings, SILVER_TRADES))
    return silver.where(in_ranges(ranges))


def _plain(name: str) -> Column:
    """Return a decimal column as people write it, without trailing zeros."""
    return F.regexp_replace(F.col(name).cast("string"), r"\.?0+$", "")
