"""The history of one managed run, read from Dagster in the form that `supervision_policy.decide` takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from jobs.managed_runs import GAPS_TAG, HEARTBEAT_TAG, NAME_TAG, PLANNED_STOP_TAG, TERMINAL_TAG
from jobs.run_heartbeat import heartbeat_of, worker_is_gone
from lakehouse.status.supervision import seconds_of
from sensors.supervision_policy import LIVE_PHASES, ObservedRun, Phase

#: Number of the newest runs that are read: more than the failures in a row after which the backoff reaches its cap.
RUNS = 25

_PHASES = {
    DagsterRunStatus.STARTED: Phase.STARTED,
    DagsterRunStatus.CANCELING: Phase.CANCELING,
    DagsterRunStatus.FAILURE: Phase.FAILED,
    DagsterRunStatus.CANCELED: Phase.CANCELED,
    DagsterRunStatus.SUCCESS: Phase.SUCCEEDED,
}


class HeartbeatAges:
    """The time for which the heartbeat of each live run has been unchanged, by the monotonic clock, which nobody sets.

    A sensor keeps one object from tick to tick; a new process of the code server begins with an empty one.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[str, float]] = {}

    def unchanged(self, run_id: str, beat: str) -> float | None:
        """Return the seconds since this heartbeat of a run was first seen; None at the first look at the run.

        `beat` is the value of the run's heartbeat tag.
        """
        seen = self._seen.get(run_id)
        if seen is None or seen[0] != beat:
            self._seen[run_id] = (beat, self._now())
            return None if seen is None else 0.0
        return self._now() - seen[1]

    def forget(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self._seen.pop(run_id, None)


def run_history(instance: DagsterInstance, name: str, ages: HeartbeatAges) -> list[ObservedRun]:
    """Read the newest RUNS runs of the managed work `name` from Dagster, the newest first; update `ages` by them."""
    records = instance.get_run_records(RunsFilter(tags={NAME_TAG: name}), limit=RUNS)
    return [_observed(record, ages) for record in records]


def _observed(record: RunRecord, ages: HeartbeatAges) -> ObservedRun:
    run, created_at = record.dagster_run, record.create_timestamp.timestamp()
    heartbeat, start = heartbeat_of(run.tags), record.start_time or created_at
    # A start in the future cannot be compared with: the clock was set back while the run lived.
    if heartbeat is not None and heartbeat < start <= time.time():
        heartbeat = None  # copied from the run that this one re-executes
    phase = _PHASES.get(run.status, Phase.WAITING)
    unchanged = None
    if phase in LIVE_PHASES:
        unchanged = ages.unchanged(run.run_id, run.tags.get(HEARTBEAT_TAG, ""))
    else:
        ages.forget(run.run_id)
    return ObservedRun(
        run_id=run.run_id,
        phase=phase,
        created_at=created_at,
        started_at=record.start_time,
        ended_at=record.end_time,
        heartbeat_at=heartbeat,
        planned_stop_at=seconds_of(run.tags, PLANNED_STOP_TAG),
        unchanged_seconds=unchanged,
        worker_gone=phase in LIVE_PHASES and heartbeat is not None and worker_is_gone(run.tags),
        terminal_error=run.tags.get(TERMINAL_TAG, ""),
        gaps=run.tags.get(GAPS_TAG, ""),
    )
