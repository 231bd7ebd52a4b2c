"""Reads the runs of one kept work from Dagster, as `decide` wants them."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from jobs.kept import HOLES_TAG, NAME_TAG, PLANNED_STOP_TAG, TERMINAL_TAG
from jobs.live import heartbeat_of, seconds_of, worker_is_gone
from sensors.decide import LIVE_PHASES, ObservedRun, Phase

#: Newest runs looked at: more failures in a row than the doublings that reach the cap.
RUNS = 25

_PHASES = {
    DagsterRunStatus.STARTED: Phase.STARTED,
    DagsterRunStatus.CANCELING: Phase.CANCELING,
    DagsterRunStatus.FAILURE: Phase.FAILED,
    DagsterRunStatus.CANCELED: Phase.CANCELED,
    DagsterRunStatus.SUCCESS: Phase.SUCCEEDED,
}


def observe(instance: DagsterInstance, name: str) -> list[ObservedRun]:
    """The newest runs of the kept work `name`, newest first."""
    records = instance.get_run_records(RunsFilter(tags={NAME_TAG: name}), limit=RUNS)
    return [_observed(record) for record in records]


def _observed(record: RunRecord) -> ObservedRun:
    run, created_at = record.dagster_run, record.create_timestamp.timestamp()
    heartbeat = heartbeat_of(run.tags)
    if heartbeat is not None and heartbeat < (record.start_time or created_at):
        heartbeat = None  # copied from the run that this one re-executes
    phase = _PHASES.get(run.status, Phase.WAITING)
    return ObservedRun(
        run_id=run.run_id,
        phase=phase,
        created_at=created_at,
        started_at=record.start_time,
        ended_at=record.end_time,
        heartbeat_at=heartbeat,
        planned_stop_at=seconds_of(run.tags, PLANNED_STOP_TAG),
        worker_gone=phase in LIVE_PHASES and heartbeat is not None and worker_is_gone(run.tags),
        terminal_error=run.tags.get(TERMINAL_TAG, ""),
        holes=run.tags.get(HOLES_TAG, ""),
    )
