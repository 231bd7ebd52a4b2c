"""The sensor `mend_holes`: launches a repair while silver/continuity holds open gaps that ingest has left.

It also launches a repair when ids that a venue lacked are to be asked for again, minutes and an hour after the venue's
first answer.

It launches no run beside a live one and none after a person canceled one. After a run that failed or changed nothing it
waits, longer each time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from jobs.managed_runs import NAME_TAG, REPAIR
from lakehouse.continuity.gaps import LedgerGap, gaps_to_repair
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.repair.run import digest
from lakehouse.settings import Settings
from sensors.run_history import HeartbeatAges, run_history
from sensors.supervision_policy import (
    FailDead,
    Launch,
    ObservedRun,
    Phase,
    Policy,
    Skip,
    backoff,
    due_after,
    failures_in_a_row,
    live_or_dead,
)
from sensors.supervisor import MISSED_HEARTBEATS, end_dead_run

#: Ticks of a supervisor per tick of this sensor: a gap has been open for minutes, so seconds do not matter.
SUPERVISOR_TICKS = 3
#: Shortest and longest wait after runs that failed or changed nothing, in seconds; it doubles each time.
BACKOFF_SECONDS, BACKOFF_CAP_SECONDS = 30.0, 600.0


def decide_repair(gaps: Sequence[LedgerGap], runs: Sequence[ObservedRun], now: float, policy: Policy) -> Launch | Skip:
    """Decide whether to launch a repair of these gaps at `now` (epoch seconds), or wait and say why. Pure.

    `runs` are the runs of the job `repair`, the newest first; none of them is live.
    """
    if not runs:
        return Launch(f"{REPAIR}:first")
    newest = runs[0]
    if newest.planned:
        due, why = (
            due_after(newest.planned_stop_at or 0.0, policy.planned_grace_seconds, now),
            "stopped with the lakehouse",
        )
    elif newest.phase is Phase.CANCELED:
        return Skip(
            f"run {newest.run_id[:8]} was canceled by hand, so nothing more is repaired; "
            f"to resume, launch the job {REPAIR} by hand"
        )
    elif newest.phase is Phase.FAILED and newest.terminal_error:
        due, why = due_after(newest.ended, policy.backoff_cap_seconds, now), newest.terminal_error
    else:
        due, why = _after_no_change(digest(gaps), runs, now, policy)
    if now >= due:
        return Launch(f"{REPAIR}:after:{newest.run_id}")
    again = sum(gap.tries > 0 for gap in gaps)
    waiting = f"{len(gaps) - again} open gaps{f', {again} to be asked for again' if again else ''}"
    return Skip(f"{waiting}; run {newest.run_id[:8]}: {why}; next run in {due - now:.0f} s")


def _after_no_change(gaps: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> tuple[float, str]:
    """When the next run is due after runs that failed or left the same gaps open, in epoch seconds, and why."""
    same = 0
    for run in runs:
        if not run.planned and (run.phase is Phase.CANCELED or run.gaps != gaps):
            break
        same += not run.planned
    failures = failures_in_a_row(runs, policy) if runs[0].phase is Phase.FAILED else 0
    if not same and not failures:
        return 0.0, ""
    why = f"failure {failures} in a row" if failures else f"the same gaps were left open {same} times in a row"
    return due_after(runs[0].ended, backoff(max(same, failures), policy), now), why


def _look(settings: Settings, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Launch | Skip:
    after = settings.repair_after_seconds
    try:
        gaps = gaps_to_repair(settings, after)
    except READ_ERRORS as error:
        return Skip(f"the ledger could not be read: {' '.join(str(error).split())}")
    if not gaps:
        return Skip(f"no gap has been open for {after:g} s, none is due again")
    return decide_repair(gaps, runs, now, policy)


def repair_sensor(settings: Settings) -> SensorDefinition:
    """Make the sensor `mend_holes`, which launches the job `repair` while there is something to repair."""
    policy = Policy(
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
        watch_seconds=MISSED_HEARTBEATS * settings.heartbeat_seconds,
        backoff_base_seconds=BACKOFF_SECONDS,
        backoff_cap_seconds=BACKOFF_CAP_SECONDS,
    )
    ages = HeartbeatAges()

    @sensor(
        name="mend_holes",
        job_name=REPAIR,
        default_status=DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SUPERVISOR_TICKS * settings.supervisor_seconds,
        description=f"Launches the job {REPAIR} if silver/continuity has held a gap open for "
        f"{settings.repair_after_seconds:g} s, or if ids that a venue lacked are due to be asked for again. A run "
        "that a person cancels is the last; turn this sensor off to repair nothing.",
    )
    def repair(context: SensorEvaluationContext) -> SensorResult:
        runs, now = run_history(context.instance, REPAIR, ages), time.time()
        # The runs first: reading them costs less than reading the lake.
        decision = live_or_dead(REPAIR, runs, now, policy) or _look(settings, runs, now, policy)
        if isinstance(decision, Launch):
            return SensorResult(run_requests=[RunRequest(decision.run_key, tags={NAME_TAG: REPAIR})])
        if isinstance(decision, FailDead):
            for run_id in decision.run_ids:
                end_dead_run(context.instance, run_id, decision.reason)
            return SensorResult(skip_reason=SkipReason(f"{REPAIR}: {decision.reason}"))
        return SensorResult(skip_reason=SkipReason(decision.reason))

    return repair
