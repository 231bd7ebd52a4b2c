"""Start the processes of one lakehouse, find them again, restart and end them.

Every process that the stack starts carries the environment variable `MARKER` with the absolute path of the home. Run
workers inherit it through Dagster's code server. So they are found even if their parent died and another process
adopted them, and no process is ever ended by its name.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lakehouse.broker import die_with_parent

#: Environment variable by which a process of a lakehouse is known; its value is the absolute path of the home.
MARKER = "LAKEHOUSE_CONTROL_ROOM"

#: Seconds that a child must live to count as started: Dagster's parts and the broker are up within 15 s.
HEALTHY_SECONDS = 30.0
#: Deaths in a row, before a child was ever up, after which it is not started again: that would only hide the reason.
STARTUP_DEATHS = 3
#: First and longest wait before a restart, seconds: fast enough for one crash, slow enough not to burn a core.
BASE_SECONDS = 0.5
CAP_SECONDS = 30.0


@dataclass(frozen=True)
class ChildSpec:
    """A child process to start: its name, command line, environment, and the file that gets its output."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


class Child:
    """One running child in its own process session, so that Ctrl-C in the terminal reaches only this process.

    It dies with this process, even if that is killed (on Linux; elsewhere the next start ends it).
    """

    def __init__(self, spec: ChildSpec) -> None:
        """Start the process. Call from a thread that lives as long as the child: on Linux it dies with that thread."""
        self.spec = spec
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        shim = (sys.executable, "-S", "-E", die_with_parent.__file__)
        arguments = (*shim, str(os.getpid()), *spec.command)
        with spec.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(spec.command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(spec.environment),
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code; None while the process runs, the negative number of the signal that ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone, not to the processes that it started; nothing if it has ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the child's end; return True if it has ended."""
        try:
            self._process.wait(max(timeout, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


@dataclass
class RestartPolicy:
    """Decides when a child that died is started again. No I/O, no clock: the caller passes the times and waits."""

    deaths_in_a_row: int = 0
    ever_healthy: bool = False

    def died(self, lived_seconds: float) -> float | None:
        """Count a death after `lived_seconds`, and return the seconds to wait before the next start.

        None means to give up: the child has died STARTUP_DEATHS times in a row and was never up for HEALTHY_SECONDS.
        """
        if lived_seconds >= HEALTHY_SECONDS:
            self.ever_healthy = True
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        if not self.ever_healthy and self.deaths_in_a_row >= STARTUP_DEATHS:
            return None
        # The exponent is bounded, so that a child that dies for a week does not overflow a float.
        return float(min(CAP_SECONDS, BASE_SECONDS * 2 ** min(self.deaths_in_a_row - 1, 16)))


#: Environment variable that limits glibc's heaps for the threads of a process. Streams limit them too, but heaps that
#: Dagster's threads got before that stay (`lakehouse.runtime.process_memory`).
HEAPS = {"MALLOC_ARENA_MAX": "2"}


def child_environment(variables: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of a child: HEAPS, then this process's, then `variables`, then the marker of this home.

    This process's PYTHONDONTWRITEBYTECODE is left out: it makes every start of Dagster 2.5 times slower.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**HEAPS, **environment, **variables, MARKER: str(home.absolute())}


def last_line(log: Path) -> str:
    """Read the last line of a child's log that is not blank, from its last 8 KiB; empty if there is none.

    The lines that `Child` writes at each start do not count.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith("--- ")), "")


def marked_processes(home: Path) -> list[psutil.Process]:
    """Find the live processes that carry the marker of this home, except this process and its parents.

    Zombies do not count, nor do processes whose environment cannot be read.
    """
    wanted = str(home.absolute())
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes(processes: Sequence[psutil.Process], deadline: float) -> list[psutil.Process]:
    """End processes: SIGTERM to all, SIGKILL to those left half a second before `deadline` (monotonic seconds).

    Returns the killed processes.
    """
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=max(deadline - 0.5 - time.monotonic(), 0.0))
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=max(deadline - time.monotonic(), 0.5))
    return alive
