"""Cost of a trade as everything around it grows: more trades, more symbols, more days in the tables.

    python -m benchmarks growth [--trades 1000000,5000000,20000000] [--symbols 10,200,2000] [--history 1,30,365]

One thing grows at a time, the others stay at the first value of their list. Every case has a broker and a lake of its
own. History goes through the same pipeline before the clock starts: so many days, a few thousand trades each, over all
symbols. Then the same increment is produced and caught up in a new process, and that alone is measured: CPU seconds and
wall seconds a trade, the start of the JVM included. `--peer loop --history 0` measures the hand-written loop, from an
empty lake.

The increment's trades are spread over a day of event time. With 2,000 symbols on three venues there is then more than
one bar for two of 1,000,000 trades, so symbols also grow at `--rates`, trades a second of event time.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
from typing import Any, NamedTuple

from benchmarks import contenders, report
from benchmarks.contenders import PEERS, Job
from benchmarks.data import DAY_US, START, Tape
from benchmarks.figures import spread
from benchmarks.home import RESULTS, ROOT, bench_home, fill
from benchmarks.machine import machine, machine_line

HEADERS = (
    "Grows",
    "Trades",
    "A second of event time",
    "Symbols a venue",
    "Days before",
    "Wall µs a trade",
    "CPU µs a trade",
    "CPU, to the first",
)


class Case(NamedTuple):
    """One increment on top of `history` days: `trades` in one day, or at `rate` per second of event time."""

    grows: str
    trades: int
    symbols: int
    history: int
    rate: int | None = None

    @property
    def event_us(self) -> int:
        """Event time of the increment, in microseconds."""
        return DAY_US if self.rate is None else self.trades * 1_000_000 // self.rate

    @property
    def thing(self) -> tuple[str, int | None]:
        """Name of the group within which its cost is compared."""
        return self.grows, self.rate


def cases(trades: list[int], symbols: list[int], history: list[int], rates: list[int]) -> list[Case]:
    """Vary one thing at a time; the first case of each is the same and is run for each."""
    return [
        *(Case("trades", count, symbols[0], history[0]) for count in trades),
        *(Case("symbols", trades[0], count, history[0], rate) for rate in (None, *rates) for count in symbols),
        *(Case("history", trades[0], symbols[0], days) for days in history),
    ]


def main(arguments: list[str]) -> int:
    """Run the cases; exit code 1 if one failed or was not exact."""
    options = _options(arguments)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-growth"
    about = {"machine": machine(), "options": vars(options)}
    print(machine_line(), flush=True)
    records: list[dict[str, Any]] = []
    for number in range(1, options.runs + 1):
        for case in cases(options.trades, options.symbols, options.history, options.rates):
            if options.only and case.grows not in options.only:
                continue
            records.append(
                {"round": number} | case._asdict() | measure(case, options.per_day, options.seed, options.peer)
            )
            print(records[-1], flush=True)
            report.write_records(folder, about, records)
    lines = table(records)
    report.show(lines, HEADERS, machine_line())
    if options.write_docs:
        text = f"{options.per_day:,} trades in each day before, {options.runs} run(s). {machine_line()}.\n\n"
        report.replace_block(ROOT / "docs" / "performance.md", "growth", text + report.markdown(lines, HEADERS))
    return 1 if any(record["error"] for record in records) else 0


def measure(case: Case, per_day: int, seed: int, peer: str = "ours") -> dict[str, Any]:
    """Run the increment of one case on a lake of its own."""
    with bench_home() as settings:
        tape = Tape(seed, case.symbols, start=START - dt.timedelta(days=case.history))
        job = Job(settings, 0, settings.home / peer, settings.home)
        job.out.mkdir()
        before = per_day * case.history
        if before:
            fill(settings, tape.take(before, case.history * DAY_US))
            contenders.run_peer(PEERS[peer], job)
        messages, _ = fill(settings, tape.take(case.trades, case.event_us))
        job = dataclasses.replace(job, messages=messages)
        (cost,) = contenders.run_peer(PEERS[peer], job)
        found = PEERS[peer].count(job) if cost.exit_code == 0 else (None, None)
        expected = before + case.trades
        is_right = found == (expected, expected) or (peer == "loop" and cost.exit_code == 0)  # it leaves repeats in
        error = "" if is_right else f"{found} for {expected}: {contenders.last_words(job)}"
        return {
            "seconds": cost.seconds,
            "cpu_seconds": cost.cpu_seconds,
            "peak_rss": cost.peak_rss,
            "error": error,
        }


def table(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One line per case; the last column is its CPU per trade relative to the first case of the same group."""
    lines: list[tuple[str, ...]] = []
    first: dict[tuple[str, int | None], float] = {}
    for case in dict.fromkeys(Case(*(record[name] for name in Case._fields)) for record in records):
        of_case = [record for record in records if tuple(record[name] for name in Case._fields) == case]
        good = [record for record in of_case if not record["error"]]
        rate = case.trades * 1_000_000 / case.event_us
        place = (case.grows, f"{case.trades:,}", f"{rate:,.0f}", f"{case.symbols:,}", f"{case.history:,}")
        wall = spread(record["seconds"] / case.trades * 1e6 for record in good)
        cpu = spread(record["cpu_seconds"] / case.trades * 1e6 for record in good)
        if wall is None or cpu is None:
            lines.append((*place, f"failed: {of_case[0]['error']}", "", ""))
            continue
        ratio = cpu.median / first.setdefault(case.thing, cpu.median)
        lines.append((*place, report.spread_text(wall, ".1f"), report.spread_text(cpu, ".1f"), f"{ratio:.2f}"))
    return lines


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument("--trades", type=_numbers, default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--symbols", type=_numbers, default=[10, 200, 2_000], help="on each of three venues")
    parser.add_argument("--history", type=_numbers, default=[1, 30, 365], help="days before")
    parser.add_argument("--rates", type=_numbers, default=[1_000, 10_000], help="trades a second as symbols grow")
    parser.add_argument("--per-day", type=int, default=5_000, help="trades in each day before (default 5000)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="trades, symbols, history: some of them")
    parser.add_argument("--peer", choices=("ours", "loop"), default="ours", help="the loop takes no days before")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    if options.peer != "ours" and options.history != [0]:
        parser.error(f"--history {options.history}, expected 0: the loop begins anew with each run; say --history 0")
    return options
