"""Latency and CPU of a running lakehouse: event → Kafka, event → Silver, event → bar.

    python -m benchmarks latency --rate 1000 --minutes 3 [--warm 60]     starts `lakehouse demo`, measures, stops it
    python -m benchmarks latency --home FOLDER [--from ISO --to ISO]     of a lakehouse that has run, tables alone

The demo is the whole product: simulated exchange, Kafka, ingest, streams, Dagster with its checks. Percentiles are over
all live trades of the measured minutes; nothing is sampled. The simulator stamps a trade as it sends it, on this same
machine, so the clocks agree.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.demo_run import PARTS, DemoRun
from benchmarks.home import RESULTS, ROOT
from benchmarks.machine import machine, machine_line
from benchmarks.visible import History, percentile
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import OPS_BATCHES, SILVER_TRADES

LEGS = ("kafka", "silver", "bar")
HEADERS = (
    "Trades/s asked",
    "Trades/s seen",
    "Event → Kafka, p50 / p99 s",
    "Event → Silver, p50 / p99 s",
    "Event → bar, p50 / p99 s",
    "CPU, cores",
    "of it: ingest / streams / broker / Dagster / simulator / API",
    "First bar, s",
)


def main(arguments: list[str]) -> int:
    """Measure; exit code 1 if a trade of the measured time is in no bar."""
    options = _options(arguments)
    print(machine_line(), flush=True)
    records = []
    if options.home is not None:
        records.append({"rate": 0.0} | latencies(load_settings(home=options.home), options.begin, options.end))
    else:
        for rate in options.rate:
            records.append(_of_demo(rate, options))
            print(records[-1], flush=True)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-latency"
    report.write_records(
        folder, {"machine": machine(), "options": {k: str(v) for k, v in vars(options).items()}}, records
    )
    lines = [_line(record) for record in records]
    report.show(lines, HEADERS, machine_line())
    if options.write_docs:
        text = f"{options.minutes:g} minutes after {options.warm:g} s of warm-up. {machine_line()}.\n\n"
        report.replace_block(ROOT / "docs" / "performance.md", "latency", text + report.markdown(lines, HEADERS))
    return 1 if any(record["not_in_bars"] for record in records) else 0


def _of_demo(rate: float, options: argparse.Namespace) -> dict[str, Any]:
    RESULTS.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="demo-", dir=RESULTS))
    try:
        with DemoRun(home, rate) as demo:
            first_bar = demo.wait_for_bars()
            begin, end, cpu = demo.measure(options.warm, options.minutes * 60)
            demo.wait_until_in_gold(end)
        result = latencies(demo.settings, begin, end)
        home.with_suffix(".log").unlink()  # it stays only where something went wrong
        return {"rate": rate, "first_bar_seconds": first_bar} | result | {f"cpu_{part}": cpu[part] for part in PARTS}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def latencies(settings: Settings, begin: dt.datetime | None, end: dt.datetime | None) -> dict[str, Any]:
    """Seconds from event to Kafka, Silver and bar, for live trades whose messages are from `begin` to `end`.

    Raises ValueError if there is none.
    """
    history = History(table_io.sql(settings, "SELECT * FROM batches", batches=OPS_BATCHES).to_pylist())
    seconds: dict[str, list[float]] = {leg: [] for leg in LEGS}
    first = last = None
    count = not_in_bars = 0
    for trade in _trades(settings, begin, end):
        count += 1
        at = trade["ts_kafka"]
        first, last = min(first or at, at), max(last or at, at)
        visible = history.of((trade["kafka_topic"], trade["kafka_partition"]), trade["kafka_offset"])
        not_in_bars += visible.gold is None
        for leg, moment in zip(LEGS, (at, visible.silver, visible.gold), strict=True):
            if moment is not None:
                seconds[leg].append((moment - trade["ts_event"]).total_seconds())
    if first is None or last is None:
        raise ValueError("no live trade in the measured time")
    span = (last - first).total_seconds()
    result: dict[str, Any] = {"trades": count, "per_second": count / span if span else 0.0, "not_in_bars": not_in_bars}
    for leg, values in seconds.items():
        values.sort()
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            result[f"{leg}_{name}"] = percentile(values, share) if values else None
    return result


def _trades(settings: Settings, begin: dt.datetime | None, end: dt.datetime | None) -> Iterator[dict[str, Any]]:
    bounds = "".join(
        f" AND ts_kafka {sign} TIMESTAMP '{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00'"
        for sign, moment in ((">=", begin), ("<", end))
        if moment is not None
    )
    query = (
        "SELECT ts_event, ts_kafka, kafka_topic, kafka_partition, kafka_offset FROM trades "
        f"WHERE source = 'live'{bounds}"
    )
    for batch in table_io.sql_batches(settings, query, trades=SILVER_TRADES):
        yield from batch.to_pylist()


def _line(record: dict[str, Any]) -> tuple[str, ...]:
    legs = (_pair(record[f"{leg}_p50"], record[f"{leg}_p99"]) for leg in LEGS)
    shares = [record.get(f"cpu_{part}") for part in PARTS]
    known = [share for share in shares if share is not None]
    return (
        f"{record['rate']:,.0f}" if record["rate"] else "–",
        f"{record['per_second']:,.0f}",
        *legs,
        f"{sum(known):.2f}" if known else "–",
        " / ".join(f"{share:.2f}" for share in known) or "–",
        f"{record['first_bar_seconds']:.0f}" if "first_bar_seconds" in record else "–",
    )


def _pair(middle: float | None, high: float | None) -> str:
    return "–" if middle is None or high is None else f"{middle:.2f} / {high:.2f}"


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("--rate", type=lambda text: [float(one) for one in text.split(",")], default=[100.0, 1000.0])
    parser.add_argument("--minutes", type=float, default=3.0, help="that are measured (default 3)")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds after the first bar that are not measured")
    parser.add_argument("--home", type=Path, help="of a lakehouse that has run; then nothing is started")
    parser.add_argument("--from", dest="begin", type=_moment, help="with --home: first moment, ISO, UTC")
    parser.add_argument("--to", dest="end", type=_moment, help="with --home: last moment, ISO, UTC")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args(arguments)
