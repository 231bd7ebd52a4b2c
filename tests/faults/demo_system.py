"""The whole lakehouse as a user starts it: `lakehouse demo`, with Dagster keeping ingest and the streams."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from sqlalchemy.exc import OperationalError

from jobs.managed_runs import NAME_TAG, PID_TAG
from lakehouse.broker.ports import free_port
from lakehouse.errors import LakehouseError
from lakehouse.local_stack import home_folder
from lakehouse.local_stack.processes import HEALTHY_SECONDS, Child, ChildSpec, last_line, marked_processes
from lakehouse.local_stack.shutdown import SHUTDOWN_SECONDS
from lakehouse.settings import Settings
from lakehouse.status.snapshot import collect
from tests.faults import system
from tests.faults.system import NotReached, alive, java_below
from tests.support.demo_tools import environment

#: The quickest that the settings allow, so that a part has time to live between two kills. All in seconds.
QUICK = {
    "LAKEHOUSE_SUPERVISOR_SECONDS": "5",
    "LAKEHOUSE_HEARTBEAT_SECONDS": "2",
    "LAKEHOUSE_HEARTBEAT_TIMEOUT_SECONDS": "20",
    "LAKEHOUSE_BACKOFF_CAP_SECONDS": "10",
}
#: Words in the command line of each part that `lakehouse demo` starts again.
WORDS = {"broker": ("kafka.Kafka",), "daemon": ("dagster._daemon",), "code-server": ("dagster", "api", "grpc")}


class DemoSystem:
    """`lakehouse demo` on a fresh folder and free ports, in a process of its own."""

    targets = ("ingest", "stream", "stream-jvm", "broker", "daemon", "code-server")

    def __init__(self, home: Path, rate: float, more: Sequence[str] = ()) -> None:
        """`more` are further words of the command `lakehouse demo`."""
        self._home = home.absolute()
        self._rate = rate
        self._more = tuple(more)
        self._child: Child | None = None
        self._settings: Settings | None = None
        self._instance: DagsterInstance | None = None

    @property
    def settings(self) -> Settings:
        assert self._settings is not None, "start() first"
        return self._settings

    @property
    def simulator_url(self) -> str:
        assert self.settings.simulator_url is not None
        return self.settings.simulator_url

    def start(self) -> None:
        command = (
            "demo",
            "--home",
            str(self._home),
            "--rate",
            f"{self._rate:g}",
            "--moves-per-hour",
            system.MOVES_PER_HOUR,
            "--port",
            str(free_port()),
            *self._more,
        )
        self._child = Child(
            ChildSpec(
                "demo",
                (sys.executable, "-m", "lakehouse", *command),
                environment(**QUICK),
                self._home.with_suffix(".demo.log"),
            )
        )
        system.wait_for("the demo's settings", (self._home / home_folder.SETTINGS_FILE).exists, 60.0, self.look)
        self._settings = system.settings_of(self._home)
        system.wait_for("trades in Gold", self._has_bars, system.START_SECONDS, self.look)
        # A part that has never lived for so long is given up after three deaths: rightly, but not here.
        system.wait_for("every part well started", self._well_started, HEALTHY_SECONDS * 4, self.look)
        self._instance = DagsterInstance.from_config(str(self.settings.dagster_home))

    def look(self) -> None:
        if self._child is not None and self._child.exit_code() is not None:
            log = self._child.spec.log
            raise NotReached(f"the demo ended (exit code {self._child.exit_code()}): {last_line(log)}")

    def find(self, target: str) -> psutil.Process | None:
        if target == "stream-jvm":
            return java_below(self._worker("stream"))
        return self._worker(target) if target in ("ingest", "stream") else self._part(target)

    def stop(self) -> None:
        if self._instance is not None:
            self._instance.dispose()
        child = self._child
        if child is None:
            return
        failures = []
        asked = time.monotonic()
        child.signal(signal.SIGINT)
        # Twice its own deadline: the machine may be overbooked.
        if not child.wait(SHUTDOWN_SECONDS * 2):
            failures.append(f"the demo had not ended {time.monotonic() - asked:.0f} s after Ctrl-C")
            child.signal(signal.SIGKILL)
            child.wait(5.0)
        elif child.exit_code() != 0:
            failures.append(f"the demo ended with {child.exit_code()}: {last_line(child.spec.log)}")
        if left := system.end_leftovers(self._home):
            failures.append(f"left running: {'; '.join(left)}")
        assert not failures, "; ".join(failures)

    def _has_bars(self) -> bool:
        with contextlib.suppress(LakehouseError):
            return bool(collect(self.settings).bars)
        return False

    def _well_started(self) -> bool:
        parts = [self._part(name) for name in WORDS]
        with contextlib.suppress(psutil.Error):
            return all(part and time.time() - part.create_time() > HEALTHY_SECONDS + 1 for part in parts)
        return False

    def _part(self, name: str) -> psutil.Process | None:
        for process in marked_processes(self._home):
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if set(WORDS[name]) <= set(command) and not any(
                    word.endswith("die_with_parent.py") for word in command
                ):
                    return process
        return None

    def _worker(self, name: str) -> psutil.Process | None:
        """The run worker of a kept work, by the process id that the run has put into its tags."""
        if self._instance is None:
            return None
        try:
            filters = RunsFilter(tags={NAME_TAG: name}, statuses=[DagsterRunStatus.STARTED])
            records = self._instance.get_run_records(filters, limit=1)
        except OperationalError:  # SQLite was busy
            return None
        pid = records[0].dagster_run.tags.get(PID_TAG, "") if records else ""
        return alive(int(pid)) if pid.isdigit() else None
