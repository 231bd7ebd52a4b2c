"""Calls for files that a cycle of the streams makes: commits, looks at logs and checkpoints, data files.

    python -m benchmarks requests [--rate 1000] [--seconds 60] [--warm 30]

A cycle is a batch of Bronze and what follows of it in Silver and Gold. Trades go to Kafka at an even rate; the three
streams run as `lakehouse stream` does; `strace` (Linux, a package of that name) follows the calls of our process and of
its JVM apart. On a local disk most looks cost next to nothing; on an object store nearly each is a request, with its
wait and its price. Upkeep, once a minute, is in the figures if it falls into the measured time.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import psutil

from benchmarks import report
from benchmarks.data import Message, Tape
from benchmarks.file_calls import KINDS, Place, counts
from benchmarks.home import RESULTS, ROOT, bench_home, fill
from benchmarks.machine import machine, machine_line
from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.runtime.spark_session import JVM_MARK
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, LAYERS

#: Seconds for the first bars on a busy machine, for a process to end, and between two pieces that the sender sends.
START_SECONDS, END_SECONDS, PIECE_SECONDS = 240.0, 60.0, 0.05

HEADERS = ("Process", "Place", "Commits", "Log read", "Listed", "Asked for", "Data read", "Written", "Deleted")

Calls = dict[str, Counter[tuple[str, str]]]


def main(arguments: list[str]) -> int:
    """Measure; exit code 2 if there is no strace."""
    options = _options(arguments)
    if shutil.which("strace") is None:
        print("no strace; expected it on the path: install the system's package strace (Linux)", file=sys.stderr)
        return 2
    print(machine_line(), flush=True)
    calls, seconds = _measure(options)
    cycles = calls["Python"][BRONZE_MESSAGES.path, "commit"]
    records = _records(calls)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-requests"
    report.write_records(folder, {"machine": machine(), "options": vars(options), "cycles": cycles}, records)
    lines = [_line(record, cycles) for record in records]
    title = f"A cycle's calls at {options.rate:g} trades/s: mean of {cycles} cycles in {seconds:.0f} s."
    report.show(lines, HEADERS, f"{title}\n{machine_line()}")
    if options.write_docs:
        text = f"{title} {machine_line()}.\n\n" + report.markdown(lines, HEADERS)
        report.replace_block(ROOT / "docs" / "performance.md", "requests", text)
    return 0


def _measure(options: argparse.Namespace) -> tuple[Calls, float]:
    """Return the calls of each process in the measured time, and its seconds."""
    over = threading.Event()
    with bench_home() as settings, contextlib.ExitStack() as stack:
        sender = threading.Thread(target=fill, args=(settings, _paced(options.rate, over)), name="sender")
        sender.start()
        stack.callback(sender.join)
        stack.callback(over.set)
        stream = stack.enter_context(_stream(settings))
        _wait_for_bars(settings, stream)
        time.sleep(options.warm)
        jvm = next(one for one in psutil.Process(stream.pid).children(True) if JVM_MARK in one.cmdline())
        folder = options.traces or settings.home
        traces = {name: folder / f"{name}.strace" for name in ("Python", "JVM")}
        began = time.monotonic()
        with _traced(stream.pid, traces["Python"]), _traced(jvm.pid, traces["JVM"]):
            time.sleep(options.seconds)
        seconds = time.monotonic() - began
        if stream.poll() is not None:
            raise RuntimeError(f"the streams ended with {stream.returncode} while they were measured")
        places = _places(settings)
        found: Calls = {}
        for name, trace in traces.items():
            with trace.open(encoding="utf-8", errors="replace") as lines:
                found[name] = counts(lines, places)
        return found, seconds


def _paced(rate: float, over: threading.Event) -> Iterator[Message]:
    """Yield trades of now, at an even rate, until it is `over`."""
    tape = Tape(start=dt.datetime.now(dt.UTC))
    begun, sent = time.monotonic(), 0
    while not over.wait(PIECE_SECONDS):
        passed = time.monotonic() - begun
        count = int(passed * rate) - sent
        sent += count
        if count:
            yield from tape.take(count, round(count / rate * 1_000_000))


@contextlib.contextmanager
def _stream(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run the three streams; end them by their id."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "SPARK_"))}
    kept |= {name: os.environ[name] for name in ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS") if name in os.environ}
    log = RESULTS / "requests.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "lakehouse", "stream", "all"]
        run = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=kept | settings.environment(), cwd=ROOT
        )
    try:
        yield run
    finally:
        _end(run, signal.SIGTERM)


@contextlib.contextmanager
def _traced(pid: int, trace: Path) -> Iterator[None]:
    """Write the file calls of a process, all its threads, to a file."""
    command = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(trace), "-p", str(pid)]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield
        if run.poll() is not None:
            raise RuntimeError(f"strace ended with {run.returncode}; expected leave to follow process {pid}")
    finally:
        _end(run, signal.SIGINT)  # it lets its process go


def _end(run: subprocess.Popen[bytes], number: int) -> None:
    run.send_signal(number)
    try:
        run.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()


def _wait_for_bars(settings: Settings, stream: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if stream.poll() is not None:
            raise RuntimeError(f"the streams ended with {stream.returncode}; see {RESULTS.name}/requests.log")
        with contextlib.suppress(LakehouseError, OSError):
            if table_io.row_count(table_io.open_table(settings, GOLD_BARS_1M)):
                return
        time.sleep(1.0)
    raise TimeoutError(f"no bars after {START_SECONDS:g} s; see {RESULTS.name}/requests.log")


def _places(settings: Settings) -> list[Place]:
    tables = [
        Place(PurePath(table_io.table_uri(settings, table)), table.path) for table in table_io.active_tables(settings)
    ]
    checkpoints = PurePath(settings.checkpoints)
    return [*tables, *(Place(checkpoints / layer, f"{layer}'s checkpoint") for layer in LAYERS)]


def _records(calls: Calls) -> list[dict[str, Any]]:
    """Return one record for each process and place that has a call, and one for the sum of each process."""
    records: list[dict[str, Any]] = []
    for process, found in calls.items():
        for place in sorted({name for name, _ in found}):
            records.append({"process": process, "place": place} | {kind: found[place, kind] for kind in KINDS})
        sums = {kind: sum(count for (_, its), count in found.items() if its == kind) for kind in KINDS}
        records.append({"process": process, "place": "all"} | sums)
    return records


def _line(record: dict[str, Any], cycles: int) -> tuple[str, ...]:
    means = (f"{record[kind] / cycles:.1f}" if record[kind] else "" for kind in KINDS)
    return (record["process"], record["place"], *means)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks requests", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="trades a second (default 1000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="that are measured (default 60)")
    parser.add_argument("--warm", type=float, default=30.0, help="seconds after the first bar that are not measured")
    parser.add_argument("--traces", type=Path, help="folder in which what strace has written stays")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args(arguments)
