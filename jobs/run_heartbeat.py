"""The heartbeat of a long-running run: the run's body keeps it up, and the supervisors read it.

Guarantee: a run that was ended from outside (canceled, failed by a supervisor), or whose parent died, stops within two
beats, so it cannot go on writing unseen. Limit: while Dagster's storage does not answer, only the parent is watched;
the lock of `lakehouse.streams` and the idempotent writes cover that time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

import psutil
from dagster import (
    AssetMaterialization,
    DagsterExecutionInterruptedError,
    DagsterInstance,
    DagsterRunStatus,
    OpExecutionContext,
)

from assets.failures import one_line_failures
from jobs.managed_runs import HEARTBEAT_TAG, HOST_TAG, NAME_TAG, PID_TAG, PLANNED_STOP_TAG, TERMINAL_TAG, TROUBLE_TAG
from lakehouse.errors import TerminalError
from lakehouse.settings import Settings
from lakehouse.status.supervision import seconds_of

#: Statuses of a run that has not ended.
LIVE = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)

#: Seconds: a process that was created later than this after a run's heartbeat is not the worker but has got its process
#: id. Smaller differences are those of two clocks.
PID_REUSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class RunHeartbeat:
    """Sign of life of a run: a context manager around everything that the run does.

    A thread writes the time into the run's tags every `heartbeat_seconds`, and notices if the run was ended from
    outside or its parent process died. `reason` then says which of these happened; it is empty before. `name` is the
    name of the managed work.
    """

    def __init__(self, instance: DagsterInstance, run_id: str, name: str, heartbeat_seconds: float) -> None:
        self._instance = instance
        self._run_id = run_id
        self._name = name
        self._heartbeat_seconds = heartbeat_seconds
        self._parent = os.getppid()
        self._lost = threading.Event()
        self._released = threading.Event()
        # Dagster reads a run's tags, adds to them and writes them: of two writers at once, one would be undone.
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{name}", daemon=True)
        self.reason = ""

    def hold(self, seconds: float) -> None:
        """Wait `seconds`; raise DagsterExecutionInterruptedError as soon as the run is no longer wanted.

        It must be this error: a plain return would turn CANCELED into SUCCESS, and a Failure would turn it into
        FAILURE, which is relaunched although a person canceled the run.
        """
        if self._lost.wait(seconds):
            raise DagsterExecutionInterruptedError(self.reason)

    def mark_terminal(self, message: str) -> None:
        """Write a terminal error's message into the run's tags, so that the supervisor waits long before a relaunch."""
        self._add_tags({TERMINAL_TAG: message[:500]})

    def tell_trouble(self, trouble: str) -> None:
        """Write into the run's tags, for `lakehouse status`, what the run waits for; an empty text if for nothing."""
        self._add_tags({TROUBLE_TAG: trouble[:500]})

    def __enter__(self) -> RunHeartbeat:
        # A re-executed run starts with the tags of its predecessor; empty values undo them.
        tags = {NAME_TAG: self._name, HOST_TAG: socket.gethostname(), PID_TAG: str(os.getpid())}
        self._add_tags({**tags, **dict.fromkeys((PLANNED_STOP_TAG, TERMINAL_TAG, TROUBLE_TAG), ""), **_heartbeat()})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join(self._heartbeat_seconds)
        if isinstance(error, DagsterExecutionInterruptedError | KeyboardInterrupt):
            self._mark_interruption()

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat_seconds):
            if os.getppid() != self._parent:
                self._lose(f"the code server (process {self._parent}) that started this run is gone")
                return
            try:
                status = self._status()
                if status is not DagsterRunStatus.STARTED:
                    self._lose(f"this run was ended from outside: {status.value if status else 'deleted'}")
                    return
                self._add_tags(_heartbeat())
            except Exception:
                # If storage does not answer, a beat is lost, not the run.
                _log.warning("heartbeat of run %s skipped", self._run_id, exc_info=True)

    def _add_tags(self, tags: dict[str, str]) -> None:
        with self._writing:
            self._instance.add_run_tags(self._run_id, tags)

    def _lose(self, reason: str) -> None:
        self.reason = reason
        self._lost.set()

    def _status(self) -> DagsterRunStatus | None:
        run = self._instance.get_run_by_id(self._run_id)
        return run.status if run else None

    def _mark_interruption(self) -> None:
        """Let the supervisor start the run again if it was interrupted while STARTED: nobody canceled it.

        The cause was Ctrl-C to the whole process group, a stop of the container, or the death of the code server.
        """
        try:
            if self._status() is DagsterRunStatus.STARTED:
                self._add_tags({PLANNED_STOP_TAG: f"{time.time():.3f}"})
        except Exception:
            # Without the tag it ends as FAILURE and is relaunched after the backoff instead of at once.
            _log.warning("run %s: interruption not recorded", self._run_id, exc_info=True)


def _heartbeat() -> dict[str, str]:
    return {HEARTBEAT_TAG: f"{time.time():.3f}"}


@contextmanager
def hosting(context: OpExecutionContext, settings: Settings, name: str) -> Iterator[RunHeartbeat]:
    """Run the body with the heartbeat of the managed work `name`; turn LakehouseErrors into one-line failures.

    A terminal error is recorded in the run's tags before the run ends, for the supervisor to read.
    """
    heartbeat = RunHeartbeat(context.instance, context.run_id, name, settings.heartbeat_seconds)
    with one_line_failures(), heartbeat:
        try:
            yield heartbeat
        except TerminalError as error:
            heartbeat.mark_terminal(str(error))
            raise


def log_event(context: OpExecutionContext, event: AssetMaterialization) -> None:
    """Record an event so that it is visible at once and not kept in memory.

    Dagster records an event when it is logged and also holds it until the op ends, days later: some 80 MB a day.
    """
    context.log_event(event)
    for _ in context.consume_events():
        pass


def heartbeat_of(tags: Mapping[str, str]) -> float | None:
    """Return the time of a run's last heartbeat from its tags, in seconds since the epoch; None before the first."""
    return seconds_of(tags, HEARTBEAT_TAG)


def worker_is_gone(tags: Mapping[str, str]) -> bool:
    """Return True if a run's tags name a worker process of this host that is gone; False also if it is not known."""
    heartbeat = heartbeat_of(tags)
    if heartbeat is None or tags.get(HOST_TAG) != socket.gethostname() or not tags.get(PID_TAG, "").isdigit():
        return False
    try:
        process = psutil.Process(int(tags[PID_TAG]))
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > heartbeat + PID_REUSE_SECONDS
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
