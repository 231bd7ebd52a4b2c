"""The hand-written loop: confluent-kafka → polars → delta-rs, as a competent quant developer would write it.

Guarantees: none. Repeats go only within a batch, bars that span two batches come in two rows, a crash between the
three appends leaves them unequal, nothing is quarantined, ids are not followed. Decimals as exact as ours.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from deltalake import write_deltalake

from benchmarks.peers.kafka import batches
from benchmarks.peers.task import Task, task

#: Fields that are read of a message; polars skips the other fields.
MESSAGE = {
    "venue": pl.String,
    "symbol": pl.String,
    "native_symbol": pl.String,
    "trade_id": pl.Int64,
    "price": pl.String,
    "size": pl.String,
    "side": pl.String,
    "ts_event": pl.Int64,
    "ts_ingest": pl.Int64,
    "source": pl.String,
}
DECIMAL = pl.Decimal(38, 18)
UTC = pl.Datetime("us", "UTC")


def bronze_of(messages: list[Any]) -> pl.DataFrame:
    """The messages as received, with their Kafka positions."""
    return pl.DataFrame(
        {
            "partition": pl.Series([message.partition() for message in messages], dtype=pl.Int32),
            "offset": pl.Series([message.offset() for message in messages], dtype=pl.Int64),
            "ts_kafka": pl.Series([message.timestamp()[1] for message in messages], dtype=pl.Int64).cast(
                pl.Datetime("ms", "UTC")
            ),
            "key": pl.Series([message.key() for message in messages], dtype=pl.Binary),
            "value": pl.Series([message.value() for message in messages], dtype=pl.Binary),
        }
    )


def silver_of(messages: list[Any]) -> pl.DataFrame:
    """The typed trades, each (venue, symbol, id) once in this batch."""
    # One parse of all lines costs less than one of each value.
    lines = b"\n".join([message.value() for message in messages])
    return (
        pl.read_ndjson(lines, schema=MESSAGE)
        .with_columns(
            pl.col("price", "size").cast(DECIMAL),
            pl.from_epoch("ts_event", "us").cast(UTC),
            pl.from_epoch("ts_ingest", "us").cast(UTC),
        )
        .unique(["venue", "symbol", "trade_id"], keep="first")
    )


def bars_of(trades: pl.DataFrame) -> pl.DataFrame:
    """1-minute OHLCV of this batch, by venue and symbol."""
    return (
        trades.sort("trade_id")
        .group_by("venue", "symbol", pl.col("ts_event").dt.truncate("1m").alias("minute"))
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("size").sum().alias("volume"),
            pl.len().cast(pl.Int64).alias("trades"),
        )
    )


def run(wanted: Task) -> None:
    """Decode each batch once and append it to three tables."""
    for messages in batches(wanted):
        trades = silver_of(messages)
        write_deltalake(wanted.out / "bronze", bronze_of(messages), mode="append")
        write_deltalake(wanted.out / "silver", trades, mode="append")
        write_deltalake(wanted.out / "gold", bars_of(trades), mode="append")


if __name__ == "__main__":
    run(task())
