"""Reads the runs of one kept work from Dagster, as `decide` wants them."""

from __future__ import annotations

import time
from collections.abc import Callable

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from jobs.live import heartbeat_of, seconds_of, worker_is_gone
from jobs.managed_runs import GAPS_TAG, HEARTBEAT_TAG, NAME_TAG, PLANNED_STOP_TAG, TERMINAL_TAG
from sensors.supervision_policy import LIVE_PHASES, ObservedRun, Phase

#: Newest runs looked at: more failures in a row than the doublings that reach the cap.
RUNS = 25

_PHASES = {
    DagsterRunStatus.STARTED: Phase.STARTED,
    DagsterRunStatus.CANCELING: Phase.CANCELING,
    DagsterRunStatus.FAILURE: Phase.FAILED,
    DagsterRunStatus.CANCELED: Phase.CANCELED,
    DagsterRunStatus.SUCCESS: Phase.SUCCEEDED,
}


class Beats:
    """When the heartbeat of each live run was first seen as it is, by the monotonic clock, which nobody sets.

    Kept by a sensor from tick to tick; a new process of the code server begins anew.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[str, float]] = {}

    def unchanged(self, run_id: str, beat: str) -> float | None:
        """Seconds since this heartbeat of a run was first seen; None at the first look at the run."""
        seen = self._seen.get(run_id)
        if seen is None or seen[0] != beat:
            self._seen[run_id] = (beat, self._now())
            return None if seen is None else 0.0
        return self._now() - seen[1]

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._seen.pop(run_id, None)


def observe(instance: DagsterInstance, name: str, beats: Beats) -> list[ObservedRun]:
    """The newest runs of the kept work `name`, newest first."""
    records = instance.get_run_records(RunsFilter(tags={NAME_TAG: name}), limit=RUNS)
    return [_observed(record, beats) for record in records]


def _observed(record: RunRecord, beats: Beats) -> ObservedRun:
    run, created_at = record.dagster_run, record.create_timestamp.timestamp()
    heartbeat, start = heartbeat_of(run.tags), record.start_time or created_at
    # A start in the future is no start to go by: the clock was set back while the run lived.
    if heartbeat is not None and heartbeat < start <= time.time():
        heartbeat = None  # copied from the run that this one re-executes
    phase = _PHASES.get(run.status, Phase.WAITING)
    unchanged = None
    if phase in LIVE_PHASES:
        unchanged = beats.unchanged(run.run_id, run.tags.get(HEARTBEAT_TAG, ""))
    else:
        beats.forget(run.run_id)
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
