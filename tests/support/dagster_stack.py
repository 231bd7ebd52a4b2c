"""A real Dagster for tests: code server, daemon and, if wanted, webserver, as `lakehouse` starts them.

One folder, free ports, 127.0.0.1 only. `DagsterStack` ends everything it started, the run workers included.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from playwright.sync_api import Page

from jobs.managed_runs import NAME_TAG
from lakehouse.broker.ports import free_port, is_free
from lakehouse.broker.topics import ensure_topics
from lakehouse.local_stack import child_commands
from lakehouse.local_stack.processes import Child, child_environment, end_processes, marked_processes
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from lakehouse.status.supervision import LOCATION
from tests.support import ui

ROOT = Path(__file__).parents[2]
#: Seconds for one step on a machine that other work shares; each takes a few alone.
PATIENCE = 300.0
Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], seconds: float, every: float = 0.25) -> Found:
    """Return the first truthy answer of `look`. Raises AssertionError once `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds:g} s")


class DagsterStack:
    """The processes of one Dagster over `settings.home`, as a context manager."""

    def __init__(self, settings: Settings, webserver: bool = False, sensors: bool = True) -> None:
        """If `sensors` is false, they are off before the daemon starts: nothing runs unasked. Needs the webserver."""
        self.settings = settings
        self._webserver = webserver
        self._sensors = sensors
        self.children: dict[str, Child] = {}

    def __enter__(self) -> DagsterStack:
        port = free_port()
        self.workspace = child_commands.write_dagster_home(self.settings, port)
        self.instance = DagsterInstance.from_config(str(self.settings.dagster_home))
        try:
            self.children["code-server"] = Child(child_commands.code_server_command(self.settings, port))
            wait_for("code server", lambda: not is_free(port), 180)
            if self._sensors:
                self.start_daemon()
            if self._webserver:
                self.children["webserver"] = Child(child_commands.webserver_command(self.settings, self.workspace))
                wait_for("webserver", lambda: not is_free(self.settings.dagster_port), 180)
            if not self._sensors:
                self._turn_sensors_off()
                self.start_daemon()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_daemon(self) -> None:
        """Start the daemon, or start it anew."""
        self.children["daemon"] = Child(child_commands.daemon_command(self.settings, self.workspace))

    def _turn_sensors_off(self) -> None:
        found = self.graphql(
            "query($in: RepositorySelector!) {sensorsOrError(repositorySelector: $in) {... on Sensors {results {id}}}}",
            **{"in": {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}},
        )
        for sensor in found["sensorsOrError"]["results"]:
            answer = self.graphql("mutation($id: String) {stopSensor(id: $id) {__typename}}", id=sensor["id"])
            assert answer["stopSensor"]["__typename"] == "StopSensorMutationResult", answer

    def stop(self) -> None:
        """End every process that carries this home's marker, whoever started it."""
        for child in self.children.values():
            child.signal(signal.SIGTERM)
        end_processes(marked_processes(self.settings.home), time.monotonic() + 10)
        for child in self.children.values():
            child.wait(5)
        self.instance.dispose()

    @property
    def environment(self) -> dict[str, str]:
        """The environment that a person exports before using Dagster's own commands."""
        return child_environment(child_commands.environment(self.settings), self.settings.home)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m …` in the project's root and wait for its end."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def newest(self, name: str) -> RunRecord | None:
        """The newest run of the managed work `name`."""
        records = self.instance.get_run_records(RunsFilter(tags={NAME_TAG: name}), limit=1)
        return records[0] if records else None

    def status(self, run_id: str) -> DagsterRunStatus | None:
        """The present status of a run."""
        run = self.instance.get_run_by_id(run_id)
        return run.status if run else None

    def wait_status(self, run_id: str, status: DagsterRunStatus, seconds: float) -> None:
        """Wait until the run has the status."""
        wait_for(f"run {run_id[:8]} {status.value}", lambda: self.status(run_id) is status, seconds)

    def started(self, name: str, seconds: float, other_than: str = "") -> str:
        """Run id of the newest run of `name` once it is STARTED and not `other_than`."""

        def look() -> str | None:
            record = self.newest(name)
            if record is None or record.dagster_run.run_id == other_than:
                return None
            return record.dagster_run.run_id if record.dagster_run.status is DagsterRunStatus.STARTED else None

        return wait_for(f"a started run of {name}", look, seconds)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the webserver."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.settings.dagster_port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def logs(self) -> str:
        """The end of every child's log, for a failed test."""
        folder = self.settings.home / "logs"
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log")))


@contextmanager
def simulated_stack(settings: Settings, **changes: Any) -> Iterator[DagsterStack]:
    """A Dagster with webserver whose venues are a simulated exchange; `changes` of settings on top."""
    with SimulatorServer(SimulatorOptions(record=settings.home / "simulator", rate=20)) as simulator:
        common = {"simulator_url": simulator.url, "supervisor_seconds": 5, "dagster_port": free_port()}
        settings = settings.model_copy(update=common | changes)
        ensure_topics(settings)
        with DagsterStack(settings, webserver=True) as running:
            yield running


def materialize_by_hand(stack: DagsterStack, page: Page, path: str) -> str:
    """Materialize an asset in the UI; return the id of the run once it has succeeded."""
    before = {record.dagster_run.run_id for record in stack.instance.get_run_records()}
    ui.materialize(page, path)

    def launched() -> str | None:
        runs = [record.dagster_run for record in stack.instance.get_run_records()]
        # A sensor may launch a run in the same moment.
        return next((run.run_id for run in runs if run.run_id not in before and NAME_TAG not in run.tags), None)

    run_id = wait_for("the run of the click", launched, PATIENCE)
    stack.wait_status(run_id, DagsterRunStatus.SUCCESS, PATIENCE)
    return run_id
