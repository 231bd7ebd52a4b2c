"""Scale on this machine: the same catch-up on one executor and on two, each pinned to a core of its own.

    python -m benchmarks scale [--messages 20000000] [--partitions 6,12 --symbols 10,40] [--executors 1,2] [--rounds 3]

A topic is filled once for each pair of partitions and symbols. Then, in each round, Bronze, Silver and Gold are brought
from an empty lake to the newest message with each number of executors, one after the other, as
`lakehouse stream --trigger available-now` does it. Measured is what lies between the end of the first and the end of
the last batch (`executor_figures`): the start of Python, the JVMs and the first units is not in it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import PEERS, Job
from benchmarks.data import DAY_US, Tape
from benchmarks.executor_figures import (
    BROKER,
    DRIVER,
    EXECUTORS,
    MARKS,
    ScaleRun,
    cpu_within,
    pss_along,
    strays_within,
    to_first,
    window_of,
)
from benchmarks.executor_run import ExecutorRun, cores
from benchmarks.figures import off, spread
from benchmarks.home import RESULTS, ROOT, bench_home, fill
from benchmarks.machine import machine, machine_line
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import OPS_BATCHES

HEADERS = (
    "Partitions / symbols a venue",
    "Executors",
    "Messages/s, median (min–max)",
    "Rate, to the first",
    "CPU µs a message",
    "CPU, to the first",
    "Of it: driver's Python / JVM / executors' JVMs / Python",
    "Driver's part of the CPU",
    "Broker's CPU, beside it",
    f"Driver's memory at {' / '.join(f'{mark:.0%}' for mark in MARKS)}, GB",
    "Silver, rows off",
    "Bars, trades off",
)


def main(arguments: list[str]) -> int:
    """Run all cases; exit code 1 if one failed or was not exact."""
    options = _options(arguments)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-scale"
    folder.mkdir(parents=True)
    about = {"machine": machine(), "options": vars(options)}
    print(machine_line(), flush=True)
    runs: list[ScaleRun] = []
    for partitions, symbols in zip(options.partitions, options.symbols, strict=True):
        with bench_home(partitions) as settings:
            tape = Tape(options.seed, symbols)
            first = itertools.islice(tape.take(options.messages, DAY_US), options.messages)
            messages, seconds = fill(settings, first)
            trades = messages - tape.repeats
            print(f"topic: {partitions} partitions, {messages:,} messages in {seconds:.1f} s", flush=True)
            for number, executors in itertools.product(range(1, options.rounds + 1), options.executors):
                asked = ScaleRun(number, partitions, symbols, executors, messages, trades)
                runs.append(one(asked, settings, options.batch, folder))
                report.write_records(folder, about, [_record(run) for run in runs])
    lines = table(runs, options.executors[0])
    report.show(lines, HEADERS, machine_line())
    print(f"results: {folder.relative_to(ROOT)}")
    if options.write_docs:
        text = (
            f"{options.messages:,} messages a topic, seed {options.seed}, {options.rounds} round(s), "
            f"{dt.datetime.now(dt.UTC):%d %B %Y}. {machine_line()}.\n\n"
        )
        report.replace_block(ROOT / "docs" / "performance.md", "scale", text + report.markdown(lines, HEADERS))
    return 1 if any(run.error for run in runs) else 0


def one(asked: ScaleRun, settings: Settings, batch: int, folder: Path) -> ScaleRun:
    """Run one catch-up into an empty lake, which is removed afterwards; its log stays in `folder`."""
    out = settings.home / "lake-of-run"
    out.mkdir()
    lake = load_settings(
        home=out,
        bootstrap_servers=settings.bootstrap(),
        topic_partitions=settings.topic_partitions,
        max_offsets_per_trigger=batch,
    )
    name = f"{asked.partitions}x{asked.symbols}-{asked.executors}-{asked.round}"
    catch_up = ExecutorRun(lake, asked.executors, folder / f"{name}.log")
    catch_up.run()
    run = measured(asked, catch_up, Job(lake, asked.all_messages, out, folder))
    shutil.rmtree(out, ignore_errors=True)
    what = run.error or (
        f"{run.rate:>9,.0f} messages/s  {run.cpu_micros:.1f} CPU µs  driver {run.driver_share:.1%}  "
        f"{run.batches} batches of Bronze in {run.seconds:.1f} of {run.whole_seconds:.1f} s"
    )
    print(f"[{time.strftime('%H:%M:%S')}] {name} {what}", flush=True)
    return run


def measured(asked: ScaleRun, catch_up: ExecutorRun, job: Job) -> ScaleRun:
    """Read the figures of a catch-up that has ended; `error` says what was wrong."""
    fields: dict[str, Any] = asdict(asked) | {"whole_seconds": catch_up.seconds}
    if catch_up.exit_code != 0:
        return ScaleRun(**fields | {"error": f"exit code {catch_up.exit_code}"})
    window = window_of(table_io.sql(job.settings, "SELECT * FROM batches", batches=OPS_BATCHES).to_pylist())
    silver_rows, bar_trades = PEERS["ours"].count(job)
    samples = catch_up.samples
    fields |= {
        "messages": window.messages,
        "batches": window.batches,
        "seconds": window.end - window.begin,
        "cpu": cpu_within(samples, window.begin, window.end),
        "pss": pss_along(samples, window.marks),
        "silver_rows": silver_rows,
        "bar_trades": bar_trades,
    }
    wrong = []
    if (silver_rows, bar_trades) != (asked.trades, asked.trades):
        wrong.append(f"{silver_rows} rows of Silver, {bar_trades} trades in bars; expected {asked.trades}")
    if catch_up.pinned != asked.executors:
        wrong.append(f"{catch_up.pinned} executors seen; expected {asked.executors}")
    if strays := strays_within(samples, window.begin, window.end):
        wrong.append(f"{strays} threads of executors were off their core; expected none")
    return ScaleRun(**fields | {"error": "; ".join(wrong)})


def table(runs: list[ScaleRun], first: int) -> list[tuple[str, ...]]:
    """One line per case: medians of its good runs, ratios paired with the runs of the same round on `first`."""
    lines = []
    for case in dict.fromkeys(run.case for run in runs):
        of_case = [run for run in runs if run.case == case]
        good = [run for run in of_case if not run.error]
        place = (f"{case[0]} / {case[1]}", str(case[2]))
        if not good:
            lines.append((*place, f"failed: {of_case[0].error}", *[""] * (len(HEADERS) - 3)))
            continue
        failed = next((f" (failed once: {run.error})" for run in of_case if run.error), "")
        ratios = [
            "" if case[2] == first else report.spread_text(to_first(runs, case, first, figure), ".2f")
            for figure in ("rate", "cpu_micros")
        ]
        roles = " / ".join(_median(run.micros(role) for run in good) for role in (*DRIVER, *EXECUTORS))
        lines.append(
            (
                *place,
                report.spread_text(spread(run.rate for run in good), ",.0f") + failed,
                ratios[0],
                report.spread_text(spread(run.cpu_micros for run in good), ".1f"),
                ratios[1],
                roles,
                report.spread_text(spread(run.driver_share for run in good), ".1%"),
                _median(run.micros(BROKER) for run in good),
                _memory(good),
                off([(run.silver_rows, run.trades) for run in good]),
                off([(run.bar_trades, run.trades) for run in good]),
            )
        )
    return lines


def _memory(runs: list[ScaleRun]) -> str:
    """The driver's memory at each mark, Python and JVM together, and in brackets each."""
    marks = [[run.pss[number] for run in runs] for number in range(len(MARKS))]
    whole, python, jvm = (
        " / ".join(_median((sum(one[role] for role in roles) / 1e9 for one in mark), ".2f") for mark in marks)
        for roles in (DRIVER, DRIVER[:1], DRIVER[1:])
    )
    return f"{whole} (Python {python}; JVM {jvm})"


def _median(values: Any, form: str = ".2f") -> str:
    found = spread(values)
    return "" if found is None else f"{found.median:{form}}"


def _record(run: ScaleRun) -> dict[str, Any]:
    is_measured = run.seconds > 0
    return asdict(run) | {
        "messages_per_second": run.rate if is_measured else None,
        "cpu_micros": run.cpu_micros if is_measured else None,
        "driver_share": run.driver_share if is_measured else None,
    }


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _options(arguments: list[str]) -> argparse.Namespace:
    settings = load_settings()
    default, batch = settings.topic_partitions, settings.max_offsets_per_trigger
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000_000, help="in each topic, 1 %% of them repeats")
    parser.add_argument("--partitions", type=_numbers, default=[default, 12], help=f"of each topic ({default},12)")
    parser.add_argument("--symbols", type=_numbers, default=[10, 40], help="on each of three venues, by topic (10,40)")
    parser.add_argument("--executors", type=_numbers, default=[1, 2], help="numbers of executors (1,2)")
    parser.add_argument("--batch", type=int, default=batch, help=f"most messages in a batch of Bronze ({batch})")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    if len(options.partitions) != len(options.symbols):
        parser.error(f"{len(options.partitions)} numbers of partitions and {len(options.symbols)} of symbols")
    if not options.executors or not 1 <= min(options.executors) <= max(options.executors) <= len(cores()):
        parser.error(f"executors {options.executors}, expected from 1 to {len(cores())}: each has a core of its own")
    if options.rounds < 1 or options.batch < 1 or options.messages <= options.batch:
        parser.error("at least one round, and more messages than one batch takes: what is measured begins after it")
    return options
