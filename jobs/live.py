"""Runs as a supervisor or a shutdown sees them: which are live, and whether their worker can still be alive."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

import psutil
from dagster import DagsterRunStatus

from jobs.managed_runs import HEARTBEAT_TAG, HOST_TAG, PID_TAG

LIVE = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)

#: A process created this many seconds after a run's heartbeat has inherited the worker's pid; below it, clocks differ.
PID_REUSE_SECONDS = 2.0


def heartbeat_of(tags: Mapping[str, str]) -> float | None:
    """Seconds since the epoch of the last heartbeat; None before the first."""
    return seconds_of(tags, HEARTBEAT_TAG)


def seconds_of(tags: Mapping[str, str], tag: str) -> float | None:
    """A tag that holds seconds since the epoch; None where it is missing, empty or was edited into something else."""
    with contextlib.suppress(ValueError):
        return float(tags.get(tag, ""))
    return None


def worker_is_gone(tags: Mapping[str, str]) -> bool:
    """True where the run's worker was a process of this host and no longer exists. False where that cannot be told."""
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
