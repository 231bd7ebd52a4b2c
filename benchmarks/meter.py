"""Run one command and report its cost: wall time, CPU seconds and peak memory of its whole process tree.

    python -m benchmarks.meter RESULT.json COMMAND …

CPU is exact: this process becomes the reaper of every orphan below it (Linux, `PR_SET_CHILD_SUBREAPER`), so a JVM that
outlives its Python driver by a moment is waited for and counted by the kernel's own account. Memory is sampled; RSS
counts pages that two processes share twice, as `ps` does. The clock stops when the command itself has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
#: Seconds between two looks at the memory; a look at a JVM's tree costs some milliseconds.
SAMPLE_SECONDS = 0.25
#: Seconds that what the command left behind may take to end by itself.
ORPHAN_SECONDS = 20.0


@dataclass(frozen=True)
class Cost:
    """Cost of one command, in bytes and seconds."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_rss: int


def measured(command: list[str], output: Path, environment: dict[str, str], timeout: float) -> Cost:
    """Run `command` under its own meter process; its stdout and stderr go to `output`.

    After `timeout` seconds it is ended, by its id, and the exit code is that of SIGKILL.
    """
    result = output.with_suffix(".cost.json")
    meter = [sys.executable, "-m", "benchmarks.meter", str(result), f"{timeout:g}", *command]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            meter, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment
        ) as run,
    ):
        try:
            run.wait()
        except BaseException:
            run.terminate()  # `subprocess.run` would kill it, and what it measures would go on without it
            raise
    return Cost(**json.loads(result.read_text(encoding="utf-8")))


def main(arguments: list[str]) -> int:
    """Run as the meter process."""
    result, timeout, command = Path(arguments[0]), float(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # A runner that is killed must not leave a peer running.
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, _give_up)
    ended = threading.Event()
    began = time.monotonic()
    child = subprocess.Popen(command)
    peak = _Peak(ended)
    peak.start()
    try:
        exit_code = child.wait(timeout)
    except subprocess.TimeoutExpired:
        _end_all_below()
        exit_code = child.wait()
    seconds = time.monotonic() - began
    _reap_orphans()
    ended.set()
    peak.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = Cost(exit_code, seconds, usage.ru_utime + usage.ru_stime, peak.bytes)
    result.write_text(json.dumps(asdict(cost)), encoding="utf-8")
    return 0


class _Peak(threading.Thread):
    """Track the largest sum of RSS below this process."""

    def __init__(self, ended: threading.Event) -> None:
        super().__init__(name="peak", daemon=True)
        self.bytes = 0
        self._ended = ended

    def run(self) -> None:
        while True:
            self.bytes = max(self.bytes, rss_of(psutil.Process().children(recursive=True)))
            if self._ended.wait(SAMPLE_SECONDS):
                return


def rss_of(processes: list[psutil.Process]) -> int:
    """Sum of RSS in bytes, without processes that end meanwhile."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            memory = process.memory_info()
            # Between vfork and exec a JVM's child runs in its parent's memory and would count it a second time.
            spawning = parent is not None and process.name() == "java" == parent.name()
            total += 0 if parent is not None and spawning and memory.vms == parent.memory_info().vms else memory.rss
    return total


def _reap_orphans() -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.02)
    _end_all_below()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _give_up(_number: int, _frame: object) -> None:
    _end_all_below()
    os._exit(128 + signal.SIGTERM)


def _end_all_below() -> None:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
