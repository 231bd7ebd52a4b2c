"""The scale over executors: its window, the arithmetic within it, and the pinning and telling apart of processes."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from benchmarks import executor_run, scale
from benchmarks.executor_figures import (
    BROKER,
    DRIVER,
    EXECUTORS,
    ROLES,
    Sample,
    ScaleRun,
    Window,
    cpu_within,
    pss_along,
    strays_within,
    to_first,
    window_of,
)
from benchmarks.figures import Spread

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def batch(query: str, number: int, second: float, rows: int) -> dict[str, Any]:
    at = BEGIN + dt.timedelta(seconds=second)
    return {"query": query, "batch_id": number, "committed_at": at, "rows_in": rows}


BATCHES = [
    batch("gold", 2, 30, 50),
    batch("bronze", 1, 8, 40),
    batch("gold", 0, 10, 10),
    batch("bronze", 0, 4, 30),
    batch("silver", 0, 9, 100),
    batch("gold", 1, 20, 40),
    batch("bronze", 2, 12, 30),
]


def sample(at: float, cpu: float, python: int = 0, strays: int = 0) -> Sample:
    used = dict.fromkeys(ROLES, cpu) | {BROKER: 2 * cpu}
    return Sample(at, used, {DRIVER[0]: python, DRIVER[1]: 5} if python else {}, strays)


def run(number: int, executors: int, seconds: float, error: str = "") -> ScaleRun:
    cpu = {DRIVER[0]: 1.0, DRIVER[1]: 1.0, EXECUTORS[0]: 2.0, EXECUTORS[1]: 4.0 * executors, BROKER: 9.0}
    pss = [{DRIVER[0]: size * 10**9, DRIVER[1]: 10**9} for size in (1, 2, 3)]
    return ScaleRun(
        number, 6, 10, executors, 1_100_000, 990_000, 1_000_000, 5, seconds, 99.0, cpu, pss, 990_000, 990_000, error
    )


RUNS = [run(1, 1, 20.0), run(1, 2, 10.0), run(2, 1, 40.0), run(2, 2, 16.0), run(3, 1, 10.0, "lost"), run(3, 2, 1.0)]


def test_the_window_is_from_bronzes_first_commit_to_golds_last() -> None:
    at = BEGIN.timestamp()
    marks = ((at + 4, at + 10), (at + 20, at + 20), (at + 30, at + 30))
    assert window_of(BATCHES) == Window(at + 4, at + 30, 70, 2, marks)


@pytest.mark.parametrize("missing", ["bronze", "gold"])
def test_a_window_needs_two_batches_of_bronze_and_one_of_gold(missing: str) -> None:
    left = [one for one in BATCHES if one["query"] != missing or (missing == "bronze" and one["batch_id"] == 0)]
    with pytest.raises(ValueError, match="expected two and one"):
        window_of(left)


def test_cpu_is_of_the_window_alone_even_between_two_samples() -> None:
    samples = [sample(0, 0.0), sample(2, 1.0), sample(4, 5.0), sample(6, 6.0)]
    assert cpu_within(samples, 1, 5) == dict.fromkeys(ROLES, 5.0) | {BROKER: 10.0}
    assert cpu_within(samples, 1, 2.5) == dict.fromkeys(ROLES, 1.5) | {BROKER: 3.0}
    assert cpu_within(samples, 2, 9) == dict.fromkeys(ROLES, 5.0) | {BROKER: 10.0}


def test_memory_is_the_median_of_a_marks_samples_or_the_one_before() -> None:
    samples = [sample(1, 0, 10), sample(2, 0, 90), sample(3, 0, 30), sample(4, 0), sample(7, 0, 50)]
    found = pss_along(samples, ((1, 3), (4, 5), (6, 8)))
    assert found == [{DRIVER[0]: size, DRIVER[1]: 5} for size in (30, 30, 50)]


def test_strays_count_within_the_window() -> None:
    assert strays_within([sample(1, 0, 0, 7), sample(2, 0, 0, 3), sample(3, 0), sample(4, 0, 0, 9)], 2, 3) == 3


def test_figures_are_of_a_message_in_the_window_and_leave_the_broker_out() -> None:
    assert RUNS[1].rate == 100_000.0
    assert RUNS[1].cpu_micros == pytest.approx(12.0)
    assert RUNS[1].driver_share == pytest.approx(1 / 6)


def test_ratios_are_paired_within_the_round_and_leave_out_failures() -> None:
    assert to_first(RUNS, (6, 10, 2), 1, "rate") == Spread(2.25, 2.0, 2.5, 2)
    assert to_first(RUNS, (6, 10, 2), 1, "cpu_micros") == Spread(1.5, 1.5, 1.5, 2)


def test_the_table_has_a_line_for_each_number_of_executors() -> None:
    one, two = scale.table(RUNS, 1)
    assert one[:4] == ("6 / 10", "1", "37,500 (25,000–50,000) (failed once: lost)", "")
    assert two[1] == "2"
    assert two[3:7] == ("2.25 (2.00–2.50)", "12.0 (12.0–12.0)", "1.50 (1.50–1.50)", "1.00 / 1.00 / 2.00 / 8.00")
    assert two[7] == "16.7% (16.7%–16.7%)"
    assert two[9] == "2.00 / 3.00 / 4.00 (Python 1.00 / 2.00 / 3.00; JVM 1.00 / 1.00 / 1.00)"
    assert two[10:] == ("exact", "exact")
    (failed,) = scale.table([run(1, 1, 1.0, "exit code 1")], 1)
    assert failed[2] == "failed: exit code 1"
    assert len(failed) == len(scale.HEADERS)


@pytest.mark.skipif(len(executor_run.cores()) < 2, reason="a process is moved from all cores to one")
def test_all_threads_and_later_children_get_the_core() -> None:
    code = (
        "import subprocess, sys, threading\n"
        "thread = threading.Thread(target=sys.stdin.readline)\n"
        "thread.start()\n"
        "print('ready', flush=True)\n"
        "thread.join()\n"
        "show = 'import os; print(sorted(os.sched_getaffinity(0)))'\n"
        "subprocess.run([sys.executable, '-c', show])\n"
    )
    core = executor_run.cores()[-1]
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert executor_run.pin(process.pid, core) == 2
        assert executor_run.pin(process.pid, core) == 0
        out, _ = process.communicate("\n", timeout=30)
    assert out == f"[{core}]\n"


#: Starts the next process of a chain, with the next word of CHAIN as its argument; the last one waits for a line.
LINK = """
import os, subprocess, sys
word, _, rest = os.environ["CHAIN"].partition(",")
if word:
    subprocess.call([sys.executable, "-c", os.environ["LINK"], word], env={**os.environ, "CHAIN": rest})
else:
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_processes_below_an_executor_are_its_workers() -> None:
    """A tree with the words of the real one: driver → JVM → executor → daemon → worker."""
    chain = f"jvm,{executor_run.EXECUTOR_CLASS},daemon,worker"
    with subprocess.Popen(
        [sys.executable, "-c", LINK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LINK": LINK, "CHAIN": chain},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = executor_run.places(psutil.Process(process.pid))
        process.communicate("\n", timeout=30)
    assert [place.role for place in found] == [*DRIVER, EXECUTORS[0], EXECUTORS[1], EXECUTORS[1]]
    executor, daemon, worker = found[2:]
    assert [place.executor for place in found] == [None, None, *[executor.process.pid] * 3]
    assert daemon.group == worker.group == daemon.process.pid
