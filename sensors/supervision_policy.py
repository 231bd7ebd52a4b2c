"""Decide what a supervisor does about one managed run. Pure: runs, the time and a policy in, one decision out.

A live run is left alone. A dead run is failed. A failed run is relaunched after a backoff. A run that a person ended
stays ended. A run that ended with its lakehouse is relaunched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lakehouse.status.supervision import was_planned


class Phase(Enum):
    """A run's status, as far as a supervisor needs it."""

    WAITING = "waiting"  # queued, or its worker is being started
    STARTED = "started"
    CANCELING = "canceling"
    FAILED = "failed"
    CANCELED = "canceled"
    SUCCEEDED = "succeeded"


#: Phases of a run that has not ended.
LIVE_PHASES = frozenset({Phase.WAITING, Phase.STARTED, Phase.CANCELING})


@dataclass(frozen=True)
class ObservedRun:
    """One run of the managed work, as Dagster and its tags show it. Times are seconds since the epoch, None if unknown.

    `worker_gone`: the run's process no longer exists. `terminal_error`: the message of an error that will come again;
    empty if there was none.
    """

    run_id: str
    phase: Phase
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    heartbeat_at: float | None = None
    planned_stop_at: float | None = None
    #: Seconds for which its heartbeat has been unchanged, by a clock that nobody sets; None at the first look.
    unchanged_seconds: float | None = None
    worker_gone: bool = False
    terminal_error: str = ""
    gaps: str = ""  #: digest of the gaps that it was to repair; empty for other jobs

    @property
    def ended(self) -> float:
        """Epoch seconds at which the run ended; its latest known time if the end was not recorded."""
        known = (self.created_at, self.started_at, self.heartbeat_at)
        return self.ended_at if self.ended_at is not None else max(time for time in known if time is not None)

    @property
    def lived(self) -> float:
        """Seconds from the run's start to its last heartbeat; 0 if its body never began."""
        if self.started_at is None or self.heartbeat_at is None:
            return 0.0
        return max(0.0, self.heartbeat_at - self.started_at)

    @property
    def planned(self) -> bool:
        """True if the run was stopped together with its lakehouse, and not by a person for good."""
        return was_planned(self.planned_stop_at, self.created_at)


@dataclass(frozen=True)
class Policy:
    """Time limits of a supervisor, all in seconds."""

    #: A STARTED run without a heartbeat for so long is dead.
    heartbeat_timeout_seconds: float = 60.0
    #: A live run beats within this time, even if the clock is set meanwhile: three beats, of which one may be lost.
    watch_seconds: float = 15.0
    #: First wait after a failure: about what a broker or a venue needs to restart.
    backoff_base_seconds: float = 5.0
    #: Longest wait, so that work resumes soon after a long outage. A terminal error waits this long at once.
    backoff_cap_seconds: float = 300.0
    #: A run that lived so long was healthy: earlier failures no longer count.
    healthy_seconds: float = 60.0
    #: Time that the rest of the lakehouse has to stop after a planned stop.
    planned_grace_seconds: float = 10.0


@dataclass(frozen=True)
class Launch:
    """Decision to launch a run. `run_key` names the run before it: Dagster launches only one run for a key."""

    run_key: str


@dataclass(frozen=True)
class Skip:
    """Decision to do nothing now; `reason` says why, for people."""

    reason: str


@dataclass(frozen=True)
class FailDead:
    """Decision to record that these runs have ended, because their workers are dead; the next tick launches anew."""

    run_ids: tuple[str, ...]
    reason: str


Decision = Launch | Skip | FailDead

#: Seconds by which a time may lie in the future because two hosts' clocks differ. Beyond that, our clock was set back.
CLOCKS_DIFFER_SECONDS = 5.0


def decide(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Decision:
    """Decide what to do about the managed work `name` at `now` (epoch seconds): launch a run, wait, or end dead runs.

    `runs` are the runs of this work, the newest first. The module's docstring says when a run is launched again.
    """
    decision = live_or_dead(name, runs, now, policy)
    if decision is not None:
        return decision
    return _after(name, runs, now, policy) if runs else Launch(f"{name}:first")


def backoff(failures: int, policy: Policy) -> float:
    """Return the seconds to wait after `failures` (at least 1) in a row; they double up to the policy's cap."""
    # 2**63 seconds is beyond any cap; the bound keeps the power from overflowing a float.
    return min(policy.backoff_cap_seconds, policy.backoff_base_seconds * 2.0 ** min(failures - 1, 63))


def due_after(since: float, seconds: float, now: float) -> float:
    """Return the time at which a wait of `seconds` that began at `since` ends.

    `since`, `now` and the result are epoch seconds. The result is `now` if `since` lies more than CLOCKS_DIFFER_SECONDS
    in the future, because the clock was set back.
    """
    return since + seconds if since <= now + CLOCKS_DIFFER_SECONDS else now


def live_or_dead(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Skip | FailDead | None:
    """Return FailDead if runs seem live but are dead, else Skip if a run is live, else None."""
    dead = [(run, reason) for run in runs if (reason := _death(run, now, policy))]
    if dead:
        return FailDead(tuple(run.run_id for run, _ in dead), dead[0][1])
    live = next((run for run in runs if run.phase in LIVE_PHASES), None)
    return Skip(f"{name}: run {live.run_id[:8]} is {live.phase.value}") if live else None


def _death(run: ObservedRun, now: float, policy: Policy) -> str:
    """Why a seemingly live run is dead; empty if it is not."""
    if run.phase not in (Phase.STARTED, Phase.CANCELING):
        return ""
    if run.worker_gone:
        return "its worker process is gone"
    sign = run.started_at if run.heartbeat_at is None else run.heartbeat_at
    silent = 0.0 if sign is None else now - sign
    # By design, a CANCELING run no longer beats; Dagster's own cancel timeout ends it.
    # After the clock was set, any heartbeat looks old, or from the future, until the next one, which a live run sends
    # within `watch_seconds` and a dead run never.
    may_beat = run.unchanged_seconds is not None and run.unchanged_seconds < policy.watch_seconds
    if run.phase is not Phase.STARTED or abs(silent) <= policy.heartbeat_timeout_seconds or may_beat:
        return ""
    if silent < 0:
        return f"its last heartbeat is {-silent:.0f} s in the future and none has followed: the clock was set back"
    return f"no heartbeat for {silent:.0f} s, expected one within {policy.heartbeat_timeout_seconds:.0f} s"


def _after(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Decision:
    """Decide after the newest run has ended."""
    newest = runs[0]
    launch = Launch(f"{name}:after:{newest.run_id}")
    if newest.planned:
        due = due_after(newest.planned_stop_at or 0.0, policy.planned_grace_seconds, now)
        why = "it was stopped with the lakehouse"
    elif newest.phase is Phase.FAILED and newest.terminal_error:
        due, why = due_after(newest.ended, policy.backoff_cap_seconds, now), newest.terminal_error
    elif newest.phase is Phase.FAILED:
        failures = failures_in_a_row(runs, policy)
        due, why = due_after(newest.ended, backoff(failures, policy), now), f"failure {failures} in a row"
    else:
        return Skip(
            f"{name}: run {newest.run_id[:8]} was ended by hand ({newest.phase.value}) and stays ended; "
            f"to resume, launch the job {name.partition('/')[0]} by hand"
        )
    if now >= due:
        return launch
    return Skip(f"{name}: run {newest.run_id[:8]} ended: {why}; relaunch in {due - now:.0f} s")


def failures_in_a_row(runs: Sequence[ObservedRun], policy: Policy) -> int:
    """Count the failed runs from the newest one back to the last run that was healthy or did not fail.

    A run that lived longer than the policy's `healthy_seconds` was healthy; it counts too if it failed. Planned stops
    do not count.
    """
    failures = 0
    for run in runs:
        if run.phase is not Phase.FAILED and not run.planned:
            break
        failures += not run.planned
        if run.lived > policy.healthy_seconds:
            break
    return failures
