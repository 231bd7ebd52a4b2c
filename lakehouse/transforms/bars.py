"""Trades → one-minute bars. Pure DataFrame → DataFrame, the same for stream and rebuild; `longer` has longer bars.

A bar is a fold over the trades of one (venue, symbol, minute), ordered by (ts_event, trade_id); `lakehouse.tables` says
what each column means. All figures are exact decimals: a product price × size is rounded half-up to 18 decimals once a
trade, which changes nothing for the venues' own scales (10 + 8 decimals at most, exchanges' documents), and the two
quotients once a bar. `complete` is not made here: it depends on trades outside the bar (`streams/gold_complete.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

BAR_KEY = ("venue", "symbol", "bar_start")

#: Columns of a bar that come from its trades; `complete`, `revision` and `updated_at` are the stream's.
BAR_VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trades",
    "buy_volume",
    "sell_volume",
    "pressure",
    "first_trade_id",
    "last_trade_id",
)


def window_start(timestamp: Column, minutes: int) -> Column:
    """The start of the `minutes`-long window, aligned to the epoch, that holds a timestamp."""
    return F.window(timestamp, f"{minutes} minutes").getField("start")


def notional(price: Column, size: Column) -> Column:
    """price × size as DECIMAL(38,18), half-up.

    DECIMAL(38,18) × DECIMAL(38,18) needs 36 decimals and overflows Spark's 38 digits, so each factor is split at the
    point and the four partial products are exact; only the product of the two fractions is rounded. Silver's rules
    bound the whole parts (12 and 15 digits).
    """
    price_whole, size_whole = F.floor(price).cast("decimal(12,0)"), F.floor(size).cast("decimal(15,0)")
    price_part = (price - price_whole).cast("decimal(18,18)")
    size_part = (size - size_whole).cast("decimal(18,18)")
    whole = (price_whole * size_whole).cast("decimal(38,18)")
    mixed = (price_whole * size_part).cast("decimal(38,18)") + (size_whole * price_part).cast("decimal(38,18)")
    parts = (price_part * size_part).cast("decimal(38,18)")
    return (whole + mixed.cast("decimal(38,18)") + parts).cast("decimal(38,18)")


def bars_from_trades(trades: DataFrame) -> DataFrame:
    """One-minute bars of Silver trades: BAR_KEY and BAR_VALUES."""
    order = F.struct("ts_event", "trade_id")
    nothing = F.lit(0).cast("decimal(38,18)")
    totals = (
        trades.withColumn("bar_start", window_start(F.col("ts_event"), 1))
        .groupBy(*BAR_KEY)
        .agg(
            F.min_by("price", order).alias("open"),
            F.max("price").alias("high"),
            F.min("price").alias("low"),
            F.max_by("price", order).alias("close"),
            F.sum("size").cast("decimal(38,18)").alias("volume"),
            F.sum(notional(F.col("price"), F.col("size"))).cast("decimal(38,18)").alias("quote_volume"),
            F.count("*").alias("trades"),
            F.sum(F.when(F.col("side") == "buy", F.col("size")).otherwise(nothing))
            .cast("decimal(38,18)")
            .alias("buy_volume"),
            F.sum(F.when(F.col("side") == "sell", F.col("size")).otherwise(nothing))
            .cast("decimal(38,18)")
            .alias("sell_volume"),
            F.min("trade_id").alias("first_trade_id"),
            F.max("trade_id").alias("last_trade_id"),
        )
    )
    return _with_quotients(totals)


def _with_quotients(totals: DataFrame) -> DataFrame:
    vwap = (F.col("quote_volume") / F.col("volume")).cast("decimal(38,18)")
    balance = (F.col("buy_volume") - F.col("sell_volume")).cast("decimal(38,18)")
    pressure = (balance / F.col("volume")).cast("decimal(38,18)")
    return totals.withColumns({"vwap": vwap, "pressure": pressure}).select(*BAR_KEY, *BAR_VALUES)
