"""Ingest alone: trades per second that one process takes from a socket and gets acknowledged by Kafka, by venue.

    python -m benchmarks ingest [--trades 200000] [--runs 3]

Three depths over the same seeded frames, so that the difference tells where the time goes: `parse` (bytes → Trade),
`encode` (and → the Kafka value), `service` (the product's own `IngestService` on a real WebSocket of 127.0.0.1 and the
embedded broker: socket, parser, continuity, producer, until the last acknowledgement). The sender of the frames is a
process of its own, with frames made before.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import report
from benchmarks.data import VENUES, Tape, symbol_names
from benchmarks.figures import spread
from benchmarks.frame_server import wire
from benchmarks.home import RESULTS, ROOT, bench_home
from benchmarks.machine import machine, machine_line
from lakehouse.exchanges import registry
from lakehouse.exchanges.model import Trade, encode
from lakehouse.ingest.service import IngestService
from lakehouse.settings import Settings

#: Trades a second in one process: what the product aims at.
TARGET = 50_000
HEADERS = ("Venue", "Depth", "Trades/s, median (min–max)", "CPU µs a trade")
#: Seconds until a service is taken for stuck.
SERVICE_SECONDS = 300.0

#: The frame around a trade object.
_FRAMES = {
    "binance": '{{"stream":"{symbol}@trade","data":{raw}}}',
    "kraken": '{{"channel":"trade","type":"update","data":[{raw}]}}',
    "coinbase": "{raw}",
}


def frames(venue: str, trades: int, symbols: int, seed: int) -> list[bytes]:
    """One frame per trade, as the venue sends it, without repeats."""
    made = []
    for _, value in Tape(seed, symbols, (venue,), duplicates=0.0).take(trades):
        trade = msgspec.json.decode(value, type=Trade)
        made.append(_FRAMES[venue].format(symbol=trade.native_symbol.lower(), raw=trade.raw).encode())
    return made


def main(arguments: list[str]) -> int:
    """Measure and return exit code 0; the target is reported, not enforced."""
    options = _options(arguments)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-ingest"
    folder.mkdir(parents=True)
    print(machine_line(), flush=True)
    records: list[dict[str, Any]] = []
    with bench_home() as settings:
        for number in range(1, options.runs + 1):
            for venue in VENUES:
                for record in _measure(venue, options, settings, folder, number):
                    records.append({"round": number, "venue": venue, "trades": options.trades} | record)
                    print(records[-1], flush=True)
                report.write_records(folder, {"machine": machine(), "options": vars(options)}, records)
    lines = table(records)
    report.show(lines, HEADERS, f"target: {TARGET:,} trades/s in one process\n{machine_line()}")
    if options.write_docs:
        text = f"{options.trades:,} trades a venue, {options.runs} rounds. {machine_line()}.\n\n"
        report.replace_block(ROOT / "docs" / "performance.md", "ingest", text + report.markdown(lines, HEADERS))
    return 0


def table(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One line per venue and depth."""
    lines: list[tuple[str, ...]] = []
    for venue, depth in dict.fromkeys((record["venue"], record["depth"]) for record in records):
        found = [record for record in records if (record["venue"], record["depth"]) == (venue, depth)]
        rate = spread(record["trades"] / record["seconds"] for record in found)
        cpu = spread(record["cpu_seconds"] / record["trades"] * 1e6 for record in found)
        assert rate is not None  # there is a record
        assert cpu is not None
        lines.append((venue, depth, report.spread_text(rate, ",.0f"), f"{cpu.median:.1f}"))
    return lines


def _measure(
    venue: str, options: argparse.Namespace, settings: Settings, folder: Path, number: int
) -> Iterator[dict[str, Any]]:
    made = frames(venue, options.trades, options.symbols, options.seed + number)
    names = tuple(symbol_names(options.symbols))
    parse = registry.venue(venue, names).parse
    with _clock() as clock:
        for frame in made:
            parse(frame, time.time_ns() // 1000)
    yield {"depth": "parse"} | clock
    with _clock() as clock:
        for frame in made:
            for item in parse(frame, time.time_ns() // 1000):
                assert isinstance(item, Trade)
                encode(item)
    yield {"depth": "encode"} | clock
    blob = folder / "frames"
    blob.write_bytes(wire(made))
    own = settings.model_copy(update={"topic_trades": f"trades-{venue}-{number}", "metrics_port": 0})
    yield {"depth": "service"} | _service(venue, names, own, blob, options.trades)
    blob.unlink()


def _service(venue: str, names: tuple[str, ...], settings: Settings, blob: Path, trades: int) -> dict[str, Any]:
    """Measure from the first trade handed to the producer to the last acknowledgement."""
    command = [sys.executable, "-m", "benchmarks.frame_server", str(blob)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert server.stdout is not None
    assert server.stdin is not None
    service = None
    try:
        port = int(server.stdout.readline())
        service = IngestService(settings, (venue,), names, {venue: f"http://127.0.0.1:{port}"})
        deadline = time.monotonic() + SERVICE_SECONDS
        service.start()
        while not service.stats().produced and time.monotonic() < deadline:
            time.sleep(0.005)
        with _clock() as clock:
            while service.stats().acked < trades:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{service.stats().acked} of {trades} trades within {SERVICE_SECONDS:g} s")
                time.sleep(0.01)
        return clock
    finally:
        if service is not None:
            service.stop()
        server.stdin.close()
        server.wait(10)


@contextmanager
def _clock() -> Iterator[dict[str, float]]:
    """Wall and CPU seconds of this process, all its threads, in the block; filled in at its end."""
    result: dict[str, float] = {}
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    yield result
    result["seconds"] = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--trades", type=int, default=200_000, help="a venue and round (default 200000)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args(arguments)
