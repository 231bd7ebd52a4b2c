"""A day of trades opened by the client: one symbol's hour, from a path to rows as Arrow.

    python -m benchmarks client [--trades 5000000] [--files 2880] [--rounds 9]

The day is laid out as a stream leaves it: each of `--files` batches is one small file with the trades of its time of
all markets, in Kafka's order. Every round opens the lake anew (`Lake.open`) in a fresh process and reads an hour of one
symbol, both drawn at random; the interpreter's start and imports are not counted. The rows are counted against what was
written.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import Transaction
from deltalake.transaction import AddAction

from benchmarks import report
from benchmarks.figures import spread
from benchmarks.home import RESULTS
from benchmarks.machine import machine_line
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.data_files import DataFiles
from lakehouse.tables import SILVER_TRADES

#: 2026-11-01 00:00:00 UTC in microseconds.
DAY_START = 1_793_491_200_000_000
HOUR_US = 3_600_000_000

HEADERS = ("Trades", "Files", "Rows read, median", "Open and read, s", "of it opening, s")

#: The program of a round; its arguments are the home, venue, symbol, and the hour's first microsecond.
ROUND = """
import datetime as dt, json, sys, time
from lakehouse.client import Lake
home, venue, symbol, start = sys.argv[1:]
begin = dt.datetime.fromtimestamp(int(start) / 1e6, dt.UTC)
clock = time.perf_counter()
lake = Lake.open(home)
opened = time.perf_counter()
rows = lake.trades(venue=venue, symbol=symbol, start=begin, end=begin + dt.timedelta(hours=1)).arrow()
print(json.dumps([rows.num_rows, time.perf_counter() - clock, opened - clock]))
"""


def main(arguments: list[str]) -> int:
    """Measure; exit code 1 if a round read another number of rows than was written."""
    options = _options(arguments)
    print(machine_line(), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="client-", dir=RESULTS) as home:
        settings = load_settings(home=Path(home))
        markets = [(venue, symbol) for venue in settings.venues for symbol in settings.symbols]
        ids = fill(settings, markets, options.trades, options.files)
        rng, found = random.Random(1), []
        for _ in range(options.rounds):
            market, start = rng.randrange(len(markets)), DAY_START + rng.randrange(23 * HOUR_US)
            rows, seconds, opening = _round(home, *markets[market], start)
            times = ids[market]
            expected = int(np.searchsorted(times, start + HOUR_US) - np.searchsorted(times, start))
            if rows != expected:
                print(f"found {rows:,} rows; expected {expected:,}", file=sys.stderr)
                return 1
            found.append((rows, seconds, opening))
    line = (
        f"{options.trades:,}",
        f"{options.files:,}",
        f"{median(rows for rows, _, _ in found):,.0f}",
        report.spread_text(spread([seconds for _, seconds, _ in found]), ".3f"),
        report.spread_text(spread([opening for _, _, opening in found]), ".3f"),
    )
    report.show([line], HEADERS, machine_line())
    return 0


def fill(settings: Settings, markets: list[tuple[str, str]], trades: int, files: int) -> list[Any]:
    """Write a day of trades in `files` files, in commits of 100; return each market's times in order."""
    table_io.ensure_tables(settings)
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(DAY_START, DAY_START + 24 * HOUR_US, trades))
    market = rng.integers(0, len(markets), trades)
    bounds = np.searchsorted(times, np.linspace(DAY_START, DAY_START + 24 * HOUR_US, files + 1))
    for number, first in enumerate(range(0, files, 100)):
        with BulkAppend(settings, SILVER_TRADES) as append:
            for one in range(first, min(first + 100, files)):
                part = slice(bounds[one], bounds[one + 1])
                append.adopt(_file(settings, trade_rows(markets, market[part], times[part], int(bounds[one]))))
            append.commit(Transaction("benchmark", number))
    table_io.open_table(settings, SILVER_TRADES).create_checkpoint()
    return [times[market == number] for number in range(len(markets))]


def _file(settings: Settings, rows: pa.Table) -> list[AddAction]:
    files = DataFiles(table_io.table_uri(settings, SILVER_TRADES), SILVER_TRADES)
    try:
        files.add(rows)
        return files.finish()
    finally:
        files.close()


def trade_rows(markets: list[tuple[str, str]], market: Any, times: Any, first: int) -> pa.Table:
    """Make rows of silver/trades: market numbers, times in microseconds, ids and offsets from `first` on."""
    count = len(times)
    numbers = pa.array(np.arange(first, first + count))
    amounts = pa.array(np.arange(first, first + count) % 100_000 + 1).cast(pa.decimal128(38, 18))
    at = pa.array(times).cast(pa.timestamp("us", tz="UTC"))
    venues, symbols = (pa.array([one[place] for one in markets]).take(pa.array(market)) for place in (0, 1))
    data = {
        "venue": venues,
        "symbol": symbols,
        "trade_id": numbers,
        "native_symbol": symbols,
        "price": amounts,
        "size": amounts,
        "side": pa.array(["buy", "sell"]).take(pa.array(market % 2)),
        "ts_event": at,
        "ts_ingest": at,
        "source": pa.repeat(pa.scalar("live"), count),
        "kafka_topic": pa.repeat(pa.scalar("crypto.trades"), count),
        "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_offset": numbers,
        "ts_kafka": at,
        "event_date": at.cast(pa.date32()),
    }
    schema = table_io.arrow_schema(SILVER_TRADES)
    return pa.table({name: data[name] for name in schema.names}).cast(schema)


def _round(home: str, venue: str, symbol: str, start: int) -> tuple[int, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", ROUND, home, venue, symbol, str(start)], check=True, capture_output=True, text=True
    )
    rows, seconds, opening = json.loads(done.stdout)
    return int(rows), float(seconds), float(opening)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks client", description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000, help="of the day (default 5000000)")
    parser.add_argument("--files", type=int, default=2_880, help="of the day, one a batch (default 2880)")
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args(arguments)
