"""The HTTP API beside a running lakehouse: bars of an hour, the latest price, and what it costs the streams.

    python -m benchmarks api [--rate 1000] [--requests 300] [--seconds 60] [--rounds 3] [--days 9]

The lake gets `--days` days of one-minute bars of nine markets before `lakehouse demo` starts on it. Each round has a
part without requests and a part with `--requests` requests a second for bars of random hours (nine markets × 200
hours), at random moments, whether answers have come or not. Each day has been asked for once before. A request is timed
from when it was due. The price is asked for 50 times a second, and one client follows `/v1/stream`; both are timed from
Kafka's own time of the trade, so every figure is at least as long as the truth. The streams' latency of both parts is
compared, within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
from deltalake import write_deltalake
from websockets.asyncio.client import connect

from benchmarks import report
from benchmarks.demo_run import DemoRun
from benchmarks.home import RESULTS
from benchmarks.latency import latencies
from benchmarks.machine import machine, machine_line
from benchmarks.open_loop import Outcome, arrivals, send
from benchmarks.visible import percentile
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES

#: Random hours of each market.
HOURS = 200
#: Looks at the price in a second.
PRICE_RATE = 50.0
#: Seconds for the API to answer once there are bars.
START_SECONDS = 60.0

HEADERS = (
    "Round",
    "Bars of an hour, requests/s",
    "p50 / p99 ms",
    "Not answered",
    "Price after Kafka, p50 / p99 ms",
    "Stream after Kafka, p50 / p99 ms",
    "Event → bar without / with, p50 s",
    "Ratio",
)


def main(arguments: list[str]) -> int:
    """Measure; exit code 1 if a request was not answered."""
    options = _options(arguments)
    print(machine_line(), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="api-", dir=RESULTS))
    try:
        settings = load_settings(home=home)
        fill(settings, options.days)
        with DemoRun(home, options.rate) as demo:
            demo.wait_for_bars()
            _wait_for_api(demo.settings.api_url)
            time.sleep(options.warm)
            _ask_for_each_day(demo.settings, options.days)
            rounds = [_round(demo, number, options) for number in range(1, options.rounds + 1)]
            demo.wait_until_in_gold(dt.datetime.now(dt.UTC))
            records = [_record(demo.settings, one) for one in rounds]
        home.with_suffix(".log").unlink()  # it stays only if something went wrong
    finally:
        shutil.rmtree(home, ignore_errors=True)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-api"
    report.write_records(folder, {"machine": machine(), "options": vars(options)}, records)
    report.show([_line(record) for record in records], HEADERS, machine_line())
    print(f"bars: median of the rounds' p99 {median(one['p99'] for one in records) * 1000:.1f} ms; target 50 ms")
    return 1 if any(record["other"] for record in records) else 0


def fill(settings: Settings, days: int) -> None:
    """Write whole days of made-up one-minute bars of every market, up to yesterday, a commit a day."""
    table_io.ensure_tables(settings)
    rng = random.Random(1)
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(days, 0, -1):
        start = today - dt.timedelta(days=day)
        rows = [row for venue, symbol in _markets(settings) for row in _day(venue, symbol, start, rng)]
        data = pa.Table.from_pylist(rows, table_io.arrow_schema(GOLD_BARS_1M))
        write_deltalake(table_io.open_table(settings, GOLD_BARS_1M), data, mode="append")


def _markets(settings: Settings) -> list[tuple[str, str]]:
    return [(venue, symbol) for venue in settings.venues for symbol in settings.symbols]


def _day(venue: str, symbol: str, start: dt.datetime, rng: random.Random) -> Iterator[dict[str, Any]]:
    price, trade_id = 60_000_00, 1_000_000
    for minute in range(1440):
        begin = start + dt.timedelta(minutes=minute)
        prices = [max(1, price + rng.randrange(-5_000, 5_001)) for _ in range(3)]
        close, trades = prices[-1], rng.randrange(1, 60)
        buys, sells = (Decimal(rng.randrange(1, 10**9)).scaleb(-8) for _ in range(2))
        volume, vwap = buys + sells, Decimal(price).scaleb(-2)
        yield {
            "venue": venue,
            "symbol": symbol,
            "bar_start": begin,
            "open": Decimal(price).scaleb(-2),
            "high": Decimal(max(price, *prices)).scaleb(-2),
            "low": Decimal(min(price, *prices)).scaleb(-2),
            "close": Decimal(close).scaleb(-2),
            "volume": volume,
            "quote_volume": volume * vwap,
            "vwap": vwap,
            "trades": trades,
            "buy_volume": buys,
            "sell_volume": sells,
            "pressure": ((buys - sells) / volume).quantize(Decimal(1).scaleb(-18)),
            "first_trade_id": trade_id,
            "last_trade_id": trade_id + trades - 1,
            "complete": True,
            "is_final": True,
            "revision": 1,
            "updated_at": begin,
            "bar_date": begin.date(),
        }
        price, trade_id = close, trade_id + trades


def _targets(settings: Settings, days: int, rng: random.Random) -> list[str]:
    newest = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    targets = []
    for venue, symbol in _markets(settings):
        for _ in range(HOURS):
            start = newest - dt.timedelta(minutes=rng.randrange(60, days * 1440))
            times = {"start": start.isoformat(), "end": (start + dt.timedelta(hours=1)).isoformat()}
            targets.append(f"/v1/bars?{urlencode({'venue': venue, 'symbol': symbol, **times})}")
    return targets


def _wait_for_api(url: str) -> None:
    async def answers() -> bool:
        try:
            return not (await send(url, [0.0], lambda: "/v1/health")).other
        except OSError:
            return False

    deadline = time.monotonic() + START_SECONDS
    while not asyncio.run(answers()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no API at {url} after {START_SECONDS:g} s")
        time.sleep(0.5)


def _ask_for_each_day(settings: Settings, days: int) -> None:
    now = dt.datetime.now(dt.UTC)
    moments = [(now - dt.timedelta(days=day, hours=1)).isoformat() for day in range(days + 1)]
    targets = iter([f"/v1/bars?{urlencode({'start': moment, 'end': moment})}" for moment in moments])
    asyncio.run(send(settings.api_url, [float(second) for second in range(days + 1)], lambda: next(targets)))


def _round(demo: DemoRun, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a part without and a part with requests; return their times, and the API's."""
    settings, rng = demo.settings, random.Random(number)
    without = demo.measure(0.0, options.seconds)
    targets = _targets(settings, options.days, rng)
    begin = dt.datetime.now(dt.UTC)
    bars, seen, streamed = asyncio.run(_ask(settings, targets, rng, options))
    return {
        "round": number,
        "without": without[:2],
        "with": (begin, dt.datetime.now(dt.UTC)),
        "bars": bars,
        "seen": seen,
        "streamed": streamed,
        "requests": len(bars.seconds) / options.seconds,
    }


async def _ask(
    settings: Settings, targets: list[str], rng: random.Random, options: argparse.Namespace
) -> tuple[Outcome, dict[int, float], dict[int, float]]:
    """Return the outcome of the bars, and trade id → when the price of the first market, and its stream, showed it."""
    venue, symbol = _markets(settings)[0]
    price = f"/v1/price?{urlencode({'venue': venue, 'symbol': symbol})}"
    seen: dict[int, float] = {}

    def look(body: bytes) -> None:
        for row in json.loads(body)["rows"]:
            seen.setdefault(row["trade_id"], time.time())

    every = [number / PRICE_RATE for number in range(int(options.seconds * PRICE_RATE))]
    url = settings.api_url
    bars, _, streamed = await asyncio.gather(
        send(url, arrivals(options.requests, options.seconds, rng), lambda: rng.choice(targets)),
        send(url, every, lambda: price, look),
        _follow(url, venue, symbol, options.seconds),
    )
    return bars, seen, streamed


async def _follow(url: str, venue: str, symbol: str, seconds: float) -> dict[int, float]:
    """Follow a market's trades for some seconds; trade id → when it came."""
    came: dict[int, float] = {}
    target = f"{url.replace('http', 'ws', 1)}/v1/stream?{urlencode({'venue': venue, 'symbol': symbol})}"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), connect(target) as socket:
            async for text in socket:
                now = time.time()
                for row in json.loads(text).get("rows", []):
                    came.setdefault(row["trade_id"], now)
    return came


def _record(settings: Settings, found: dict[str, Any]) -> dict[str, Any]:
    bars: Outcome = found["bars"]
    seconds = sorted(bars.seconds)
    prices = sorted(_after_kafka(settings, found["seen"]))
    live = sorted(_after_kafka(settings, found["streamed"]))
    streams = {name: latencies(settings, *found[name]) for name in ("without", "with")}
    return {
        "round": found["round"],
        "requests": found["requests"],
        "other": bars.other,
        "bytes": bars.received,
        "p50": percentile(seconds, 0.5),
        "p99": percentile(seconds, 0.99),
        "price_p50": percentile(prices, 0.5) if prices else None,
        "price_p99": percentile(prices, 0.99) if prices else None,
        "stream_trades": len(live),
        "stream_p50": percentile(live, 0.5) if live else None,
        "stream_p99": percentile(live, 0.99) if live else None,
        "ratio": streams["with"]["bar_p50"] / streams["without"]["bar_p50"],
        **{f"{name}_{leg}": value for name, legs in streams.items() for leg, value in legs.items()},
    }


def _after_kafka(settings: Settings, seen: dict[int, float]) -> list[float]:
    """Return the seconds from Kafka's time of a trade until its price was shown."""
    if not seen:
        return []
    venue, symbol = _markets(settings)[0]
    query = (
        f"SELECT trade_id, ts_kafka FROM trades WHERE venue = '{venue}' AND symbol = '{symbol}' "
        f"AND trade_id >= {min(seen)} AND trade_id <= {max(seen)}"
    )
    rows = table_io.sql(settings, query, trades=SILVER_TRADES).to_pylist()
    first = min(seen)  # it was there before the first look
    return [
        seen[row["trade_id"]] - row["ts_kafka"].timestamp()
        for row in rows
        if row["trade_id"] in seen and row["trade_id"] != first
    ]


def _line(record: dict[str, Any]) -> tuple[str, ...]:
    def pair(*values: float | None) -> str:
        return " / ".join("–" if value is None else f"{value * 1000:.1f}" for value in values)

    return (
        str(record["round"]),
        f"{record['requests']:,.0f}",
        pair(record["p50"], record["p99"]),
        str(sum(record["other"].values())),
        pair(record["price_p50"], record["price_p99"]),
        pair(record["stream_p50"], record["stream_p99"]),
        f"{record['without_bar_p50']:.2f} / {record['with_bar_p50']:.2f}",
        f"{record['ratio']:.2f}",
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks api", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="trades per second (default 1000)")
    parser.add_argument("--requests", type=float, default=300.0, help="requests per second (default 300)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part of a round (default 60)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--days", type=int, default=9, help="of bars before today (default 9)")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds after the API answers (default 60)")
    return parser.parse_args(arguments)
