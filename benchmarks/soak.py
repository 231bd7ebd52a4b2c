"""A long run of the whole product at a high rate: is the lag bounded, the memory flat, and is anything lost?

    python -m benchmarks soak [--rate 10000] [--minutes 30] [--warm 120]      also: make soak

The demo as users have it: simulated exchange, Kafka, ingest, streams, Dagster with its checks. Every few seconds the
lag of each layer and the memory of all processes are noted. At the end, with the streams still running, `lakehouse
audit --against-simulator` judges whether a trade is missing or counted twice. The comparison with the exchange's record
takes about a minute for each million trades; `--without-record` leaves it out, and Kafka's offsets alone are the truth.
"""

from __future__ import annotations

import argparse
import datetime as dt
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from benchmarks import report
from benchmarks.demo_run import DemoRun
from benchmarks.home import RESULTS, ROOT
from benchmarks.latency import latencies
from benchmarks.machine import machine, machine_line
from lakehouse.streams.progress import source_lag
from lakehouse.tables import LAYERS

#: Seconds between two samples.
EVERY_SECONDS = 10.0

HEADERS = (
    "Trades/s asked / seen",
    "Minutes",
    "Lag in Kafka, median / most",
    "Lag in the tables, median / most",
    "Event → bar, p50 / p99 s",
    "Memory (PSS), begin / end GB",
    "Slope of it (of the streams' part), MB a minute",
    "In the last third",
    "CPU, cores",
    "Audit",
)

Sample = dict[str, float]


def main(arguments: list[str]) -> int:
    """Run; exit code 1 if the audit is not exact or a trade of the measured time is in no bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm", type=float, default=120.0, help="seconds before the first sample")
    parser.add_argument("--without-record", action="store_true", help="audit against Kafka only")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    print(machine_line(), flush=True)
    record = _run(options)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-soak"
    report.write_records(folder, {"machine": machine(), "options": vars(options)}, [record])
    line = _line(record)
    report.show([line], HEADERS, machine_line())
    if options.write_docs:
        text = f"After {options.warm:g} s of warm-up. {machine_line()}.\n\n{report.markdown([line], HEADERS)}"
        report.replace_block(ROOT / "docs" / "performance.md", "soak", text)
    return 0 if record["audit"] == 0 and not record["not_in_bars"] else 1


def _run(options: argparse.Namespace) -> dict[str, Any]:
    RESULTS.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="soak-", dir=RESULTS))  # it stays: gigabytes, for whoever wants to look
    samples: list[Sample] = []
    over = threading.Event()
    with DemoRun(home, options.rate) as demo:
        demo.wait_for_bars()
        sampler = threading.Thread(target=_sample, args=(demo, options.warm, over, samples), daemon=True)
        sampler.start()
        begin, end, cpu = demo.measure(options.warm, options.minutes * 60)
        over.set()
        sampler.join()
        demo.wait_until_in_gold(end)
        audit = _audit(home, not options.without_record)
        result = latencies(demo.settings, begin, end)
    return {
        "rate": options.rate,
        "minutes": options.minutes,
        "cpu": sum(cpu.values()),
        "audit": audit.returncode,
        "audit_text": audit.stdout,
        "samples": samples,
        **result,
    }


def _sample(demo: DemoRun, warm: float, over: threading.Event, samples: list[Sample]) -> None:
    settings, begun = demo.settings, time.monotonic()
    over.wait(warm)
    while not over.wait(EVERY_SECONDS):
        held = demo.pss()
        lags = {layer: source_lag(settings, layer) for layer in LAYERS}
        known = {layer: float(lag) for layer, lag in lags.items() if lag is not None}
        if len(known) < len(lags):  # Kafka has not answered; a lag of 0 would be a lie
            print("no lag to be had", flush=True)
            continue
        parts = {f"pss_{part}": float(pss) for part, pss in held.items()}
        samples.append({"second": time.monotonic() - begun, "pss": sum(held.values()), **parts, **known})
        print({name: round(value) for name, value in samples[-1].items()}, flush=True)


def _audit(home: Path, record: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lakehouse", "audit", "--home", str(home)]
    command += ["--against-simulator"] if record else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    return done


def _line(record: dict[str, Any]) -> tuple[str, ...]:
    samples: list[Sample] = record["samples"]
    tables = [sample["silver"] + sample["gold"] for sample in samples]
    tenth, third = max(1, len(samples) // 10), max(2, len(samples) // 3)
    return (
        f"{record['rate']:,.0f} / {record['per_second']:,.0f}",
        f"{record['minutes']:g}",
        _most([sample["bronze"] for sample in samples]),
        _most(tables),
        f"{record['bar_p50']:.1f} / {record['bar_p99']:.1f}",
        f"{_mean(samples[:tenth]):.2f} / {_mean(samples[-tenth:]):.2f}",
        _slopes(samples),
        _slopes(samples[-third:]),
        f"{record['cpu']:.2f}",
        "exact" if record["audit"] == 0 else f"exit code {record['audit']}",
    )


def _most(values: Sequence[float]) -> str:
    return f"{median(values):,.0f} / {max(values):,.0f}"


def _slopes(samples: Sequence[Sample]) -> str:
    return f"{_slope(samples, 'pss'):+.1f} ({_slope(samples, 'pss_streams'):+.1f})"


def _slope(samples: Sequence[Sample], name: str) -> float:
    """Slope of bytes over seconds by least squares, in MB per minute."""
    return linear_regression([one["second"] / 60 for one in samples], [one[name] / 1e6 for one in samples]).slope


def _mean(samples: Sequence[Sample]) -> float:
    return sum(sample["pss"] for sample in samples) / len(samples) / 1e9


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
