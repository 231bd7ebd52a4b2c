"""`lakehouse demo` in a process of its own: started, watched for its CPU by part, ended by its id."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.home import ROOT
from benchmarks.visible import History
from lakehouse.broker.ports import free_port
from lakehouse.errors import LakehouseError
from lakehouse.lake import table_io
from lakehouse.lake.table_io import row_count
from lakehouse.local_stack import home_folder
from lakehouse.local_stack.memory import measure
from lakehouse.local_stack.processes import end_processes, marked_processes
from lakehouse.local_stack.shutdown import SHUTDOWN_SECONDS
from lakehouse.runtime.spark_session import JVM_MARK
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import GOLD_BARS_1M, OPS_BATCHES, SILVER_TRADES

#: Seconds for the first bars: a cold JVM and a cold Dagster, on a machine that may be busy.
START_SECONDS = 600.0
#: Seconds for the trades of the last measured moment to be in Gold.
DRAIN_SECONDS = 180.0
#: Seconds between two looks at the processes: what a process does after its last look is not counted.
LOOK_SECONDS = 1.0

#: Parts of a demo whose CPU and memory are told apart.
PARTS = ("ingest", "streams", "broker", "dagster", "simulator", "api")
#: Words of a command line → part; the first that fits.
WORDS = (
    ("simulate", "simulator"),
    ("serve", "api"),
    ("kafka.Kafka", "broker"),
    (JVM_MARK, "streams"),
)


class DemoRun:
    """One demo on a fresh folder and free ports, ended by Ctrl-C."""

    def __init__(self, home: Path, rate: float) -> None:
        self._home = home
        self._rate = rate
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        kept = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL")
        variables = {k: v for k, v in os.environ.items() if not k.startswith("LAKEHOUSE_") or k in kept}
        variables.pop("DAGSTER_HOME", None)
        command = [sys.executable, "-m", "lakehouse", "demo", "--home", str(self._home)]
        command += ["--rate", f"{self._rate:g}", "--port", str(free_port())]
        self._began = time.monotonic()
        with self._home.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                cwd=ROOT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(SHUTDOWN_SECONDS * 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_processes(marked_processes(self._home), time.monotonic() + SHUTDOWN_SECONDS)

    @property
    def settings(self) -> Settings:
        """The settings that the demo has written into its folder."""
        variables = home_folder.load_environment(self._home)
        chosen = {name.removeprefix("LAKEHOUSE_").lower(): value for name, value in variables.items()}
        return load_settings(**{name: value for name, value in chosen.items() if name in Settings.model_fields})

    def wait_for_bars(self) -> float:
        """Seconds from the start to the first row of gold/bars_1m. Raises TimeoutError or RuntimeError."""
        deadline = self._began + START_SECONDS
        while time.monotonic() < deadline:
            self._look()
            with contextlib.suppress(LakehouseError, OSError):
                if row_count(table_io.open_table(self.settings, GOLD_BARS_1M)):
                    return time.monotonic() - self._began
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"no bars after {START_SECONDS:g} s; see {self._home.with_suffix('.log').name}")

    def measure(self, warm: float, seconds: float) -> tuple[dt.datetime, dt.datetime, dict[str, float]]:
        """Return begin and end of the measured time, and the mean number of cores that each part used."""
        time.sleep(warm)
        self._look()
        begin, clock = dt.datetime.now(dt.UTC), time.monotonic()
        before = self._cpu({})
        latest = dict(before)
        while (passed := time.monotonic() - clock) < seconds:
            time.sleep(min(LOOK_SECONDS, seconds - passed))
            self._look()
            latest = self._cpu(latest)
        passed = time.monotonic() - clock
        used = dict.fromkeys(PARTS, 0.0)
        for (pid, part), total in latest.items():
            used[part] += total - before.get((pid, part), 0.0)
        return begin, dt.datetime.now(dt.UTC), {part: total / passed for part, total in used.items()}

    def pss(self) -> dict[str, int]:
        """Bytes of memory of each part now; shared pages are split among the processes that share them."""
        held = dict.fromkeys(PARTS, 0)
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                held[_part_of(process)] += measure([process]).pss
        return held

    def wait_until_in_gold(self, moment: dt.datetime) -> None:
        """Wait until Gold has what Silver had shortly after `moment`. Raises TimeoutError."""
        deadline = time.monotonic() + DRAIN_SECONDS
        query = "SELECT kafka_topic, kafka_partition, max(kafka_offset) AS kafka_offset FROM trades GROUP BY 1, 2"
        while time.monotonic() < deadline:
            self._look()
            newest_at = "SELECT max(ts_kafka) AS at FROM trades"
            newest = table_io.sql(self.settings, newest_at, trades=SILVER_TRADES)["at"][0]
            if newest.as_py() is not None and newest.as_py() > moment:
                break
            time.sleep(LOOK_SECONDS)
        places = table_io.sql(self.settings, query, trades=SILVER_TRADES).to_pylist()
        while time.monotonic() < deadline:
            self._look()
            history = History(table_io.sql(self.settings, "SELECT * FROM batches", batches=OPS_BATCHES).to_pylist())
            if all(history.of((p["kafka_topic"], p["kafka_partition"]), p["kafka_offset"]).gold for p in places):
                return
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"Gold has not got there within {DRAIN_SECONDS:g} s")

    def _look(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the demo ended with {self._process.returncode}; see its log")

    def _cpu(self, seen: dict[tuple[int, str], float]) -> dict[tuple[int, str], float]:
        """Process id and part → CPU seconds so far; a process that has ended keeps its last figure."""
        result = dict(seen)
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                result[process.pid, _part_of(process)] = times.user + times.system
        return result

    def _processes(self) -> list[psutil.Process]:
        return [*marked_processes(self._home), *([psutil.Process(self._process.pid)] if self._process else [])]


def _part_of(process: psutil.Process) -> str:
    """Name the part of a process; the run workers of ingest and stream are recognized by the processes below them."""
    words = process.cmdline()
    for word, part in WORDS:
        if word in words:
            return part
    below = {word for child in process.children() for word in child.cmdline()}
    if JVM_MARK in below:
        return "streams"
    return "ingest" if _has_kafka_threads(process) else "dagster"


def _has_kafka_threads(process: psutil.Process) -> bool:
    """librdkafka names its threads `rdk:…`; of the Python processes only ingest keeps a producer."""
    try:
        names = [(task / "comm").read_text(encoding="utf-8") for task in Path(f"/proc/{process.pid}/task").iterdir()]
    except OSError:
        return False
    return any(name.startswith("rdk:") for name in names)
