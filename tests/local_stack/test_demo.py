"""`lakehouse demo` for real: exchange, Kafka, ingest, Spark, Delta, Dagster, and nothing of it left afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from lakehouse.broker.ports import free_port
from lakehouse.broker.stored import stored_end_offsets
from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.lag import kafka_lag
from lakehouse.local_stack.processes import marked_processes
from lakehouse.local_stack.shutdown import SHUTDOWN_SECONDS
from lakehouse.settings import load_settings
from lakehouse.status.snapshot import collect
from tests.support.demo_tools import assert_nothing_left, lakehouse, start

#: A whole start and a drain on two cores that other work shares; alone it takes under two minutes.
RUN_SECONDS = 420

pytestmark = [pytest.mark.timeout(RUN_SECONDS + 60), pytest.mark.spark, pytest.mark.kafka, pytest.mark.lakehouse]


def wait_for(what: str, condition: object, seconds: float) -> None:
    """Until `condition()` is true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def test_demo_reaches_bars_passes_its_checks_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = lakehouse(
        *("demo", "--minutes", "0.5", "--rate", "60", "--port", str(free_port()), "--home", str(home)),
        cwd=tmp_path,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_left(home)
    for words in ("SIMULATED", "market paused", "peak memory, sum of PSS", "0 processes left"):
        assert words in done.stdout
    snapshot = collect(load_settings(home=home))
    trades = snapshot.table("silver/trades").rows
    assert trades
    assert snapshot.bars
    # Not one trade waits; the farewells of the three feeds do, which ingest sends when the streams have ended.
    settings = load_settings(home=home)
    ends = stored_end_offsets(settings.broker_home, [settings.topic_trades])[settings.topic_trades]
    trade_ends = {settings.topic_trades: {str(place): end for place, end in ends.items()}}
    assert kafka_lag(trade_ends, newest_batches(settings)["bronze"]) == 0
    farewells = snapshot.table("bronze/messages").lag
    assert farewells is not None
    assert 0 <= farewells <= 3
    assert (snapshot.table("silver/trades").lag, snapshot.table("gold/bars_1m").lag) == (farewells, farewells)
    assert snapshot.verdicts
    assert all(verdict.passed for verdict in snapshot.verdicts)

    # The folder says what it holds, lets itself be used from another terminal, and be emptied.
    assert (home / "SIMULATED-DATA.txt").is_file()
    assert f"export LAKEHOUSE_HOME={home}" in lakehouse("env", "--home", str(home), cwd=tmp_path).stdout
    assert lakehouse("reset", "--yes", "--home", str(home), cwd=tmp_path).returncode == 0
    assert not home.exists()


def test_dead_parts_come_back_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    log = tmp_path / "demo.log"
    demo = start("demo", "--port", str(port), "--home", str(home), cwd=tmp_path, log=log)
    try:
        wait_for("the UI", lambda: answers(port), 120)
        wait_for("the daemon", lambda: child(home, "dagster._daemon") is not None, 60)
        wait_for("the broker", lambda: (home / "broker" / "endpoint").exists(), 60)
        said = re.search(r"API (http://[\d.:]+)", log.read_text(encoding="utf-8"))  # a free port, if 8000 is busy
        assert said is not None
        api = said[1]
        wait_for("the API", lambda: "cached_bytes" in health(api), 180)
        victims = {part: child(home, part) for part in ("kafka.Kafka", "dagster._daemon", "serve")}
        for victim in victims.values():
            assert victim is not None
            victim.kill()
        for part, victim in victims.items():
            old = victim.pid if victim is not None else 0
            wait_for(f"{part} again", lambda part=part, old=old: is_new(home, part, old), 90)
        wait_for("the API and Kafka again", lambda: health(api).get("kafka_connected"), 90)
        asked = time.monotonic()
        os.kill(demo.pid, signal.SIGINT)
        assert demo.wait(SHUTDOWN_SECONDS + 15) == 0, log.read_text(encoding="utf-8")
        # The margin is Python's own exit and this machine's load; the deadline itself is in the text.
        assert time.monotonic() - asked < SHUTDOWN_SECONDS + 5
    finally:
        end(demo, home)
    text = log.read_text(encoding="utf-8")
    assert "broker ended" in text
    assert "daemon ended" in text
    assert "api ended" in text
    assert "0 processes left" in text
    assert "Traceback" not in text


def test_kill_of_the_stack_leaves_no_server_behind(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    demo = start("demo", "--port", str(port), "--home", str(home), cwd=tmp_path, log=tmp_path / "demo.log")
    try:
        wait_for("the UI", lambda: answers(port), 120)
        demo.kill()
        demo.wait(5)
        # Runs end by their lease, after two beats at most; then ingest and Spark give up on a broker that is gone.
        wait_for("all processes gone", lambda: not marked_processes(home), 90)
        assert not answers(port)
    finally:
        end(demo, home)


def answers(port: int) -> bool:
    """Return whether Dagster's UI answers with a page of its own."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2) as response:
            return "dagster_version" in json.load(response)
    except (OSError, ValueError):
        return False


def health(url: str) -> dict[str, Any]:
    """Ask the API for its state; empty if it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/v1/health", timeout=2) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except (OSError, ValueError):
        return {}


def child(home: Path, part: str) -> psutil.Process | None:
    """The process of this home with `part` in its command line."""
    for process in marked_processes(home):
        try:
            if part in process.cmdline() and "die_with_parent.py" not in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def is_new(home: Path, part: str, old: int) -> bool:
    """Return whether the part runs again, in another process."""
    process = child(home, part)
    return process is not None and process.pid != old


def end(demo: subprocess.Popen[bytes], home: Path) -> None:
    """End the demo and what it started, whatever state the test left it in; then look."""
    if demo.poll() is None:
        demo.kill()
        demo.wait(5)
    for process in marked_processes(home):
        process.kill()
    psutil.wait_procs(marked_processes(home), timeout=5)
    assert_nothing_left(home)
