"""The lease of a long-running run: its heartbeat, and the end of it when the run is no longer wanted.

Guarantee: a run that was ended from outside (canceled, failed by a supervisor) or whose parent died is left within two
beats, so it cannot go on writing as a ghost. Gap: while Dagster's storage does not answer, only the parent is watched;
the lock of `lakehouse.streams` and the idempotent writes cover that time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from types import TracebackType

from dagster import DagsterExecutionInterruptedError, DagsterInstance, DagsterRunStatus

from jobs.managed_runs import HEARTBEAT_TAG, HOST_TAG, NAME_TAG, PID_TAG, PLANNED_STOP_TAG, TERMINAL_TAG

_log = logging.getLogger(__name__)


class RunHeartbeat:
    """Held by the body of a run, as a context manager around everything that the run does."""

    def __init__(self, instance: DagsterInstance, run_id: str, name: str, heartbeat_seconds: float) -> None:
        self._instance = instance
        self._run_id = run_id
        self._name = name
        self._heartbeat_seconds = heartbeat_seconds
        self._parent = os.getppid()
        self._lost = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{name}", daemon=True)
        self.reason = ""

    def hold(self, seconds: float) -> None:
        """Wait `seconds`; raise DagsterExecutionInterruptedError as soon as the lease is lost.

        That error and no other: a plain return would turn CANCELED into SUCCESS and a Failure would turn it into
        FAILURE, which is relaunched against the wish of the person who canceled.
        """
        if self._lost.wait(seconds):
            raise DagsterExecutionInterruptedError(self.reason)

    def mark_terminal(self, message: str) -> None:
        """Record that this run's error will come again, so that the supervisor does not hammer on it."""
        self._instance.add_run_tags(self._run_id, {TERMINAL_TAG: message[:500]})

    def __enter__(self) -> RunHeartbeat:
        # A re-executed run comes with the tags of its predecessor; the empty ones take those back.
        tags = {NAME_TAG: self._name, HOST_TAG: socket.gethostname(), PID_TAG: str(os.getpid())}
        self._instance.add_run_tags(self._run_id, {**tags, PLANNED_STOP_TAG: "", TERMINAL_TAG: "", **_heartbeat()})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join(self._heartbeat_seconds)
        if isinstance(error, DagsterExecutionInterruptedError | KeyboardInterrupt):
            self._mark_interruption()

    def _keep(self) -> None:
        while not self._released.wait(self._heartbeat_seconds):
            if os.getppid() != self._parent:
                self._lose(f"the code server (process {self._parent}) that started this run is gone")
                return
            try:
                status = self._status()
                if status is not DagsterRunStatus.STARTED:
                    self._lose(f"this run was ended from outside: {status.value if status else 'deleted'}")
                    return
                self._instance.add_run_tags(self._run_id, _heartbeat())
            except Exception:
                # Storage that does not answer costs a beat, not the run.
                _log.warning("heartbeat of run %s skipped", self._run_id, exc_info=True)

    def _lose(self, reason: str) -> None:
        self.reason = reason
        self._lost.set()

    def _status(self) -> DagsterRunStatus | None:
        run = self._instance.get_run_by_id(self._run_id)
        return run.status if run else None

    def _mark_interruption(self) -> None:
        """Interrupted while STARTED: nobody asked Dagster to cancel this run, so the supervisor may start it again.

        It was Ctrl-C to the whole group, a stop of the container, or the death of the code server.
        """
        try:
            if self._status() is DagsterRunStatus.STARTED:
                self._instance.add_run_tags(self._run_id, {PLANNED_STOP_TAG: f"{time.time():.3f}"})
        except Exception:
            # Then it ends as FAILURE without the tag, and is relaunched after the backoff instead of at once.
            _log.warning("run %s: interruption not recorded", self._run_id, exc_info=True)


def _heartbeat() -> dict[str, str]:
    return {HEARTBEAT_TAG: f"{time.time():.3f}"}
