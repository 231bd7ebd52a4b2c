"""The arithmetic behind the benchmark's table, what a run costs, and the hand-written loop end to end."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.compare import parse
from benchmarks.contenders import PEERS, Job, run_peer
from benchmarks.data import Tape
from benchmarks.figures import Run, Spread, ratios, rows, spread
from benchmarks.home import ROOT, fill
from benchmarks.meter import measured
from lakehouse.settings import Settings
from tests.faults.system import alive


def run(number: int, peer: str, seconds: float, **changes: object) -> Run:
    fields = {"trades": 1_000, "messages": 1_010, "cpu_seconds": 2 * seconds, "peak_rss": 10**9} | changes
    return Run(number, peer, seconds=seconds, **fields)  # type: ignore[arg-type]


RUNS = [
    run(1, "ours", 10.0, silver_rows=1_000, bar_trades=1_000),
    run(1, "loop", 5.0, silver_rows=1_010, bar_trades=1_007),
    run(2, "ours", 20.0, silver_rows=1_000, bar_trades=1_000),
    run(2, "loop", 5.0, silver_rows=1_003, bar_trades=1_010),
    run(3, "ours", 10.0, silver_rows=1_000, bar_trades=1_000),
    run(3, "loop", 1.0, error="exit code 1: out of memory"),
]


def test_rates_and_cpu_are_per_distinct_trade() -> None:
    assert RUNS[0].rate == 100.0
    assert RUNS[0].cpu_microseconds == 20_000.0


def test_spread_is_median_least_greatest() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0, 2)
    assert spread([]) is None


def test_ratios_are_paired_within_the_round_and_leave_out_failures() -> None:
    assert ratios(RUNS, "loop") == [0.5, 0.25]
    assert ratios(RUNS, "absent") == []


def test_a_row_counts_good_runs_and_names_the_failure() -> None:
    ours, loop = rows(RUNS)
    assert ours.rate == Spread(100.0, 50.0, 100.0, 3)
    assert ours.ratio is None
    assert (ours.silver, ours.bars) == ("exact", "exact")
    assert loop.ratio == Spread(0.375, 0.25, 0.5, 2)
    assert (loop.silver, loop.bars) == ("+3 to +10", "+7 to +10")
    assert loop.error == "exit code 1: out of memory"


def test_a_peer_that_never_ended_well_and_one_with_a_part_of_the_topic_say_so() -> None:
    found = [*RUNS, run(1, "spark", 3.0, error="exit code 1: x"), run(1, "quix", 1.0, trades=100, messages=100)]
    ours, loop, spark, quix = report.comparison(found)
    assert ours[:3] == ("ours", "100 (50–100)", "")
    assert loop[2] == "0.38 (0.25–0.50)"
    assert spark[1] == "failed: exit code 1: x"
    assert quix[:3] == ("quix (first 100)", "100", "1.00")


def test_results_are_written_for_machines(tmp_path: Path) -> None:
    report.write_runs(tmp_path, {"machine": {"cores": 2}}, RUNS)
    assert '"cores": 2' in (tmp_path / "results.json").read_text(encoding="utf-8")
    head, first, *_ = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()
    assert head.startswith("round,peer,trades")
    assert first.endswith(",100.0")


def test_a_marked_block_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", encoding="utf-8")
    report.replace_block(page, "x", "new")
    assert page.read_text(encoding="utf-8") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
    with pytest.raises(ValueError, match="no block"):
        report.replace_block(page, "y", "new")


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--peers", "flink"])
    assert "expected some of ours, spark, loop" in capsys.readouterr().err


def test_cost_counts_children_that_outlive_their_parent(tmp_path: Path) -> None:
    """The grandchild burns half a second of CPU and holds 50 MB after its parent has ended."""
    burn = "import time; x = bytearray(50_000_000)\nwhile time.process_time() < 0.5: pass"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    cost = measured([sys.executable, "-c", parent], tmp_path / "out.log", dict(os.environ), 60.0)
    assert cost.exit_code == 0
    assert cost.cpu_seconds >= 0.5
    assert cost.peak_rss > 50_000_000


def test_a_stuck_command_is_ended(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert measured(sleep, tmp_path / "out.log", dict(os.environ), 0.5).exit_code == -9


def test_an_interrupted_runner_leaves_nothing_running(tmp_path: Path) -> None:
    born, log = tmp_path / "born", tmp_path / "out.log"
    nap = f"import os, pathlib, time; pathlib.Path({str(born)!r}).write_text(str(os.getpid())); time.sleep(60)"
    code = (
        "import os, pathlib, sys; from benchmarks.meter import measured\n"
        f"measured([sys.executable, '-c', {nap!r}], pathlib.Path({str(log)!r}), dict(os.environ), 60.0)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as runner:
        deadline = time.monotonic() + 30
        while not (born.exists() and born.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.02)
        runner.send_signal(signal.SIGINT)
    pid, deadline = int(born.read_text(encoding="utf-8")), time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:  # the kernel takes a moment to end it
        time.sleep(0.02)
    assert alive(pid) is None


@pytest.mark.kafka
@pytest.mark.skipif(importlib.util.find_spec("polars") is None, reason="`make bench` installs polars")
def test_the_loop_takes_a_whole_topic_and_its_result_is_counted(kafka_settings: Settings, tmp_path: Path) -> None:
    tape = Tape(1, symbols=2, duplicates=0.01)
    messages, _ = fill(kafka_settings, tape.take(2_000))
    job = Job(kafka_settings, messages, tmp_path / "loop", tmp_path, loop_batch=500)
    job.out.mkdir()
    (cost,) = run_peer(PEERS["loop"], job)
    assert cost.exit_code == 0, (tmp_path / "loop.log").read_text(encoding="utf-8")
    assert cost.peak_rss > 0
    silver, bars = PEERS["loop"].count(job)
    assert silver == bars
    assert silver is not None
    # Repeats within a batch are gone, those across batches stay.
    assert 2_000 <= silver < messages == 2_020
