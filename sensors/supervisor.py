"""The supervisor sensors: read the run history, ask `decide`, carry out its decision."""

from __future__ import annotations

import time

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from jobs.managed_runs import NAME_TAG, managed_runs
from lakehouse.settings import Settings
from lakehouse.sinks.stores import STORES
from sensors.run_history import HeartbeatAges, run_history
from sensors.supervision_policy import FailDead, Launch, Policy, decide

#: Heartbeats that a run must miss before it is taken for dead, if the clock says so too: one may be lost.
MISSED_HEARTBEATS = 3
#: Seconds between two ticks of a sensor that has nothing to launch: settings change only with a new start.
UNSET_SECONDS = 3_600


def supervisors(settings: Settings) -> list[SensorDefinition]:
    """Make the sensors `keep_JOB_running` of `ingest`, `stream` and the sinks, which launch the jobs and relaunch them.

    The sensor of a sink whose URL is not set launches nothing and says so.
    """
    unset = {store.job: store.variable for store in STORES if not store.is_wanted(settings)}
    jobs = ("ingest", "stream", *(store.job for store in STORES))
    return [_supervisor(f"keep_{job}_running", job, settings, unset.get(job, "")) for job in jobs]


def _supervisor(name: str, job: str, settings: Settings, unset: str) -> SensorDefinition:
    managed = managed_runs(settings, job)
    policy = Policy(
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
        watch_seconds=MISSED_HEARTBEATS * settings.heartbeat_seconds,
        backoff_cap_seconds=settings.backoff_cap_seconds,
    )
    ages = HeartbeatAges()

    @sensor(
        name=name,
        job_name=job,  # by name: by object, Dagster copies the sensor and warns of its own beta parameters
        default_status=DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=UNSET_SECONDS if unset else settings.supervisor_seconds,
        description=f"Keeps {', '.join(one.name for one in managed) or job} running: relaunches after failures, with "
        "backoff. A run that a person cancels stays ended; turn this sensor off to start nothing at all."
        + (f" Launches nothing now: {unset} is not set." if unset else ""),
    )
    def supervise(context: SensorEvaluationContext) -> SensorResult:
        if unset:
            return SensorResult(skip_reason=SkipReason(f"{job}: no sink, because {unset} is not set"))
        requests: list[RunRequest] = []
        reasons: list[str] = []
        for one in managed:
            decision = decide(one.name, run_history(context.instance, one.name, ages), time.time(), policy)
            if isinstance(decision, Launch):
                requests.append(RunRequest(decision.run_key, one.run_config, {NAME_TAG: one.name}))
            elif isinstance(decision, FailDead):
                reasons.append(f"{one.name}: {decision.reason}")
                for run_id in decision.run_ids:
                    end_dead_run(context.instance, run_id, decision.reason)
            else:
                reasons.append(decision.reason)
        if requests:
            return SensorResult(run_requests=requests)
        return SensorResult(skip_reason=SkipReason("; ".join(reasons)))

    return supervise


def end_dead_run(instance: DagsterInstance, run_id: str, reason: str) -> None:
    """Record in Dagster that a run whose worker is dead has failed, or was canceled if its cancellation was under way.

    A run that has ended meanwhile is left alone.
    """
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is DagsterRunStatus.STARTED:
        instance.report_run_failed(run, f"Failed by its supervisor: {reason}.")
    elif run is not None and run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, f"Canceled; {reason}.")
