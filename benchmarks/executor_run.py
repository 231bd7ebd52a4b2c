"""A catch-up on executors in processes of their own, each pinned to a core, watched for its CPU by role.

`local-cluster[n,1,1024]`: the driver's Python starts its JVM, that starts the executors' JVMs, and each of these a
daemon whose children are the Python workers. Each executor gets a core for all of that as soon as it is seen: what it
starts later inherits it. The driver and the broker are not pinned.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.executor_figures import BROKER, DRIVER, EXECUTORS, Sample
from lakehouse.local_stack.memory import measure
from lakehouse.local_stack.processes import Child, ChildSpec, end_processes
from lakehouse.settings import Settings

#: Memory of an executor's JVM in MiB: it hands units to Python and keeps no rows.
EXECUTOR_MIB = 1024
#: Class that an executor's JVM runs: a word of its command line.
EXECUTOR_CLASS = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
#: Class of the broker's.
BROKER_CLASS = "kafka.Kafka"

#: Seconds between two looks until all executors are there and pinned, and later.
FIRST_LOOKS_SECONDS, LOOK_SECONDS = 0.05, 0.5
#: Seconds between two looks at the driver's memory: the kernel walks all its pages.
PSS_SECONDS = 2.0
#: Seconds until a run is taken for stuck, and for what is left of one to end.
TIMEOUT_SECONDS, END_SECONDS = 7200.0, 10.0


def master(executors: int) -> str:
    """The Spark master: so many executors with a core each."""
    return f"local-cluster[{executors},1,{EXECUTOR_MIB}]"


def cores() -> list[int]:
    """The cores that there are."""
    return sorted(os.sched_getaffinity(0))


class ExecutorRun:
    """One catch-up of an empty lake. `samples` are in the order of time; `exit_code` is None until it has ended."""

    def __init__(self, settings: Settings, executors: int, log: Path) -> None:
        """Prepare to run with `settings`, but for the master; the processes write to `log`."""
        self._settings = settings.model_copy(update={"spark_master": master(executors)})
        self._executors = executors
        self._log = log
        self._cores: dict[int, int] = {}
        self._cpu: dict[tuple[str, int], float] = {}
        self._pss_due = 0.0
        self.samples: list[Sample] = []
        self.exit_code: int | None = None
        self.seconds = 0.0

    def run(self) -> None:
        """Start it, watch it to its end, and end whatever it leaves. After TIMEOUT_SECONDS it is ended."""
        command = (sys.executable, "-m", "benchmarks.peers.ours")
        began = time.monotonic()
        child = Child(ChildSpec("catch-up", command, self._environment(), self._log))
        seen: set[psutil.Process] = set()
        try:
            root = psutil.Process(child.pid)
            while child.exit_code() is None and time.monotonic() - began < TIMEOUT_SECONDS:
                seen.update(self._look(root))
                child.wait(LOOK_SECONDS if len(self._cores) >= self._executors else FIRST_LOOKS_SECONDS)
            self.exit_code = child.exit_code()
            self.seconds = time.monotonic() - began
        finally:
            # `is_running` knows a process by its time of birth too: an id may belong to another by now.
            left = [process for process in seen if process.is_running()]
            end_processes(left, time.monotonic() + END_SECONDS)

    @property
    def pinned(self) -> int:
        """Number of executors that there have been: more than asked for if one was lost."""
        return len(self._cores)

    def _environment(self) -> dict[str, str]:
        ours = ("LAKEHOUSE_", "SPARK_", "PYSPARK_")
        kept = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS")
        variables = {name: value for name, value in os.environ.items() if name in kept or not name.startswith(ours)}
        return variables | self._settings.environment()

    def _look(self, root: psutil.Process) -> list[psutil.Process]:
        """Take a sample, pin what is not pinned, and return the processes of the run."""
        found = places(root)
        now: dict[tuple[str, int], float] = _broker_cpu()
        strays = 0
        for place in found:
            with contextlib.suppress(psutil.Error, OSError):
                key = place.role, place.group
                now[key] = now.get(key, 0.0) + place.cpu()
                if place.executor is not None:
                    strays += pin(place.process.pid, self._core_of(place.executor))
        for key, used in now.items():
            self._cpu[key] = max(used, self._cpu.get(key, 0.0))  # one that has ended keeps its last figure
        self.samples.append(Sample(time.time(), self._cpu_by_role(), self._pss(found), strays))
        return [place.process for place in found]

    def _core_of(self, executor: int) -> int:
        """The core of an executor; one that is new gets the next."""
        return self._cores.setdefault(executor, cores()[len(self._cores) % len(cores())])

    def _cpu_by_role(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for (role, _), used in self._cpu.items():
            total[role] = total.get(role, 0.0) + used
        return total

    def _pss(self, found: list[Place]) -> dict[str, int]:
        if time.monotonic() < self._pss_due:
            return {}
        self._pss_due = time.monotonic() + PSS_SECONDS
        return {role: measure(place.process for place in found if place.role == role).pss for role in DRIVER}


class Place(NamedTuple):
    """A process of a run. `group`: the id under which its CPU counts, a worker's daemon's; `executor`: its JVM's id."""

    process: psutil.Process
    role: str
    group: int
    executor: int | None

    def cpu(self) -> float:
        """CPU seconds so far; a daemon's with those of the workers that it has reaped."""
        times = self.process.cpu_times()
        used = times.user + times.system
        is_daemon = self.role == EXECUTORS[1] and self.process.pid == self.group
        return float(used + times.children_user + times.children_system if is_daemon else used)


def places(root: psutil.Process) -> list[Place]:
    """Tell all processes of a run apart, by the tree and by the class that a JVM runs."""
    with contextlib.suppress(psutil.Error):
        below = root.children(recursive=True)  # parents before their children
        return [Place(root, DRIVER[0], root.pid, None), *_tell_apart(below)]
    return []


def _tell_apart(below: list[psutil.Process]) -> Iterator[Place]:
    known: dict[int, Place] = {}
    for process in below:
        with contextlib.suppress(psutil.Error):
            parent = known.get(process.ppid())
            if parent is not None and parent.executor is not None:
                is_daemon = parent.role == EXECUTORS[0]
                place = Place(process, EXECUTORS[1], process.pid if is_daemon else parent.group, parent.executor)
            elif EXECUTOR_CLASS in process.cmdline():
                place = Place(process, EXECUTORS[0], process.pid, process.pid)
            else:
                place = Place(process, DRIVER[1], process.pid, None)
            known[process.pid] = place
            yield place


def _broker_cpu() -> dict[tuple[str, int], float]:
    """CPU seconds of the broker, which is a child of this process."""
    used = {}
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if BROKER_CLASS in process.cmdline():
                times = process.cpu_times()
                used[BROKER, process.pid] = float(times.user + times.system)
    return used


def pin(pid: int, core: int) -> int:
    """Give all threads of a process one core; return how many had others. Repeats until none is found that has."""
    moved = 0
    while True:
        wrong = [thread for thread in _threads(pid) if not _is_on(thread, core)]
        for thread in wrong:
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setaffinity(thread, {core})
        if not wrong:
            return moved
        moved += len(wrong)


def _threads(pid: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def _is_on(thread: int, core: int) -> bool:
    try:
        return os.sched_getaffinity(thread) == {core}
    except OSError:
        return True
