"""Runs in a real Dagster instance, brought to a status as the daemon and the workers would bring them."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRun
from dagster._core.events import DagsterEvent, DagsterEventType

from jobs import stream
from jobs.managed_runs import NAME_TAG


def queued_run(instance: DagsterInstance, tags: dict[str, str] | None = None) -> DagsterRun:
    """A run of `stream` that has not started."""
    return instance.create_run_for_job(stream, tags={NAME_TAG: "stream", **(tags or {})})


def started_run(instance: DagsterInstance, tags: dict[str, str] | None = None) -> DagsterRun:
    """A run of `stream` whose worker has reported that it began."""
    run = queued_run(instance, tags)
    started = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name)
    instance.report_dagster_event(started, run.run_id)
    return run
