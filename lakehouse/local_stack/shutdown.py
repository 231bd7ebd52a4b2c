"""Shut a lakehouse down, under one monotonic deadline that covers all steps.

1. Pause the simulated market, so that nothing new arrives.
2. Stop the HTTP API, Dagster's daemon and webserver, so that nothing launches runs any more. At the same time
   `python -m jobs.shutdown` marks the live runs as stopped by plan (the next start launches them again) and terminates
   them.
3. Stop the code server; end run workers that did not obey, whichever process adopted them.
4. Stop the broker and the simulator, which ingest and the streams needed for a clean end.
5. Kill every process that still carries our marker.
A step that takes too long shortens the next ones; it never extends the whole.
"""

from __future__ import annotations

import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.local_stack import child_commands
from lakehouse.local_stack.processes import (
    Child,
    ChildSpec,
    child_environment,
    end_processes,
    marked_processes,
)
from lakehouse.local_stack.supervise import LocalStack

#: Seconds for the whole shutdown. A cancelled run was gone after 2.6 s, its JVM a second later, the broker after 3 s.
SHUTDOWN_SECONDS = 15.0
#: Seconds kept back from the runs for each of the steps after them: servers, broker, last look.
_SERVERS_SECONDS, _BROKER_SECONDS, _LAST_SECONDS = 2.0, 2.0, 1.0
#: Seconds of the runs' share that Python takes on a busy machine to import Dagster before it can ask them.
_IMPORT_SECONDS = 2.5


@dataclass(frozen=True)
class ShutdownReport:
    """Seconds that a shutdown took, names of the processes that had to be killed, and number left (must be 0)."""

    seconds: float
    killed: tuple[str, ...]
    left: int


def pause_market(url: str, timeout: float = 2.0) -> bool:
    """Ask the simulated exchange at `url` to stop trading; return False if it does not within `timeout` seconds."""
    request = urllib.request.Request(f"{url}/admin/pause", data=b"", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return bool(response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def shut_down(stack: LocalStack, forced: Callable[[], bool], seconds: float = SHUTDOWN_SECONDS) -> ShutdownReport:
    """End all processes of the stack in the module's five steps, within `seconds`, and report.

    `forced` is asked repeatedly; once it returns True, as after a second Ctrl-C, everything is ended at once.
    """
    started = time.monotonic()
    deadline = started + seconds
    home = stack.settings.home

    # 1. nothing new arrives
    if stack.market is not None and not forced():
        pause_market(stack.market.url, timeout=1.0)

    # 2. nobody launches, the runs end
    for name in ("daemon", "webserver", "api"):
        _signal(stack.child(name), signal.SIGTERM)
    if stack.child("code-server") is not None and not forced():
        _end_runs(stack, forced, deadline - _SERVERS_SECONDS - _BROKER_SECONDS - _LAST_SECONDS)

    # 3. servers, and run workers that did not obey
    code_server = stack.child("code-server")
    until = deadline - _BROKER_SECONDS - _LAST_SECONDS
    if code_server is not None:
        # It waits for its runs, and its helper processes end with it.
        code_server.signal(signal.SIGTERM)
        _wait(lambda: code_server.wait(0.1), forced, until - 1.0)
    kept = {child.pid for child in (stack.child("simulator"),) if child is not None}
    if stack.broker is not None and stack.broker.pid is not None:
        kept.add(stack.broker.pid)
    killed = _end_marked(stack, kept, time.monotonic() + 0.5 if forced() else until)

    # 4. what they needed
    if stack.broker is not None:
        stack.broker.request_stop()
    _signal(stack.child("simulator"), signal.SIGTERM)
    if stack.broker is not None:
        _wait(lambda: stack.broker is None or stack.broker.join(0.1), forced, deadline - _LAST_SECONDS)
    simulator = stack.child("simulator")
    if simulator is not None:
        _wait(lambda: simulator.wait(0.1), forced, deadline - _LAST_SECONDS)

    # 5. the last look
    killed += _end_marked(stack, set(), max(deadline, time.monotonic() + 0.5))
    return ShutdownReport(time.monotonic() - started, tuple(killed), len(marked_processes(home)))


def _end_runs(stack: LocalStack, forced: Callable[[], bool], until: float) -> None:
    home = stack.settings.home.absolute()
    budget = max(until - time.monotonic(), 1.0)
    spec = ChildSpec(
        name="shutdown",
        command=(sys.executable, "-m", "jobs.shutdown", "--seconds", f"{max(budget - _IMPORT_SECONDS, 1.0):.1f}"),
        environment=child_environment(child_commands.environment(stack.settings), home),
        log=home / "logs" / "shutdown.log",
    )
    child = Child(spec)
    if not _wait(lambda: child.wait(0.1), forced, until):
        child.signal(signal.SIGKILL)
        child.wait(1.0)


def _end_marked(stack: LocalStack, kept: set[int], until: float) -> list[str]:
    """End every marked process except `kept`; return the names of those that had to be killed."""
    names = stack.pids()
    processes = [process for process in marked_processes(stack.settings.home) if process.pid not in kept]
    return [names.get(one.pid, "a run's process") for one in end_processes(processes, until)]


def _signal(child: Child | None, number: signal.Signals) -> None:
    if child is not None:
        child.signal(number)


def _wait(done: Callable[[], bool], forced: Callable[[], bool], until: float) -> bool:
    while not done():
        if forced() or time.monotonic() >= until:
            return False
    return True
