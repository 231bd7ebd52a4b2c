"""What a supervisor does about one kept run. Pure: runs, the time and a policy in, one decision out.

A live run is left alone; a dead one is failed; a failed one is relaunched after a backoff; one that a person ended
stays ended; one that ended with its control room is relaunched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """A run's status, as far as a supervisor cares."""

    WAITING = "waiting"  # queued, or its worker is being started
    STARTED = "started"
    CANCELING = "canceling"
    FAILED = "failed"
    CANCELED = "canceled"
    SUCCEEDED = "succeeded"


LIVE_PHASES = frozenset({Phase.WAITING, Phase.STARTED, Phase.CANCELING})


@dataclass(frozen=True)
class ObservedRun:
    """One run of the kept work. Times are seconds since the epoch; None is not (yet) known."""

    run_id: str
    phase: Phase
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    heartbeat_at: float | None = None
    planned_stop_at: float | None = None
    #: Seconds for which its heartbeat has been seen as it is, by a clock that nobody sets; None at the first look.
    unchanged_seconds: float | None = None
    worker_gone: bool = False
    terminal_error: str = ""
    gaps: str = ""  #: short name of the gaps that it was to repair

    @property
    def ended(self) -> float:
        """When it ended; where that was not recorded, the latest time known."""
        known = (self.created_at, self.started_at, self.heartbeat_at)
        return self.ended_at if self.ended_at is not None else max(time for time in known if time is not None)

    @property
    def lived(self) -> float:
        """Seconds from its start to its last sign of life; 0 where its body never began."""
        if self.started_at is None or self.heartbeat_at is None:
            return 0.0
        return max(0.0, self.heartbeat_at - self.started_at)

    @property
    def planned(self) -> bool:
        """Whether it was stopped with its control room. A mark older than the run comes from the run it re-executes."""
        return self.planned_stop_at is not None and self.planned_stop_at >= self.created_at


@dataclass(frozen=True)
class Policy:
    """All in seconds."""

    #: A STARTED run without a sign of life for so long is dead.
    heartbeat_timeout_seconds: float = 60.0
    #: A live run beats within so long, however the clock was set meanwhile: three beats, of which one may be lost.
    watch_seconds: float = 15.0
    #: First wait after a failure: a broker or a venue that restarts needs about that.
    backoff_base_seconds: float = 5.0
    #: Longest wait, so that work resumes soon after a long outage ends. Terminal errors wait this long at once.
    backoff_cap_seconds: float = 300.0
    #: A run that lived so long was healthy: the failures before it no longer count.
    healthy_seconds: float = 60.0
    #: After a planned stop, the time the rest of the control room has to stop too.
    planned_grace_seconds: float = 10.0


@dataclass(frozen=True)
class Launch:
    """Launch a run. `run_key` is unique per predecessor, so two ticks cannot launch two."""

    run_key: str


@dataclass(frozen=True)
class Skip:
    """Do nothing, for a reason that a person reads."""

    reason: str


@dataclass(frozen=True)
class FailDead:
    """Fail these runs, whose workers are dead; the next tick relaunches."""

    run_ids: tuple[str, ...]
    reason: str


Decision = Launch | Skip | FailDead

#: Seconds by which a time may lie in the future because two hosts' clocks differ; beyond it, our clock was set back.
CLOCKS_DIFFER_SECONDS = 5.0


def decide(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Decision:
    """Decide about the kept work `name`; `runs` are its runs, the newest first."""
    decision = live_or_dead(name, runs, now, policy)
    if decision is not None:
        return decision
    return _after(name, runs, now, policy) if runs else Launch(f"{name}:first")


def backoff(failures: int, policy: Policy) -> float:
    """Seconds to wait after so many failures in a row, at least one: doubling up to the cap."""
    # 2**63 seconds is beyond any cap; the bound keeps the power from overflowing a float.
    return min(policy.backoff_cap_seconds, policy.backoff_base_seconds * 2.0 ** min(failures - 1, 63))


def due_after(since: float, seconds: float, now: float) -> float:
    """When a wait that began at `since` is over: at once if that lies in the future, as the clock was set back."""
    return since + seconds if since <= now + CLOCKS_DIFFER_SECONDS else now


def live_or_dead(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Skip | FailDead | None:
    """What to do while a run is live, or only seems so; None where none is."""
    dead = [(run, reason) for run in runs if (reason := _death(run, now, policy))]
    if dead:
        return FailDead(tuple(run.run_id for run, _ in dead), dead[0][1])
    live = next((run for run in runs if run.phase in LIVE_PHASES), None)
    return Skip(f"{name}: run {live.run_id[:8]} is {live.phase.value}") if live else None


def _death(run: ObservedRun, now: float, policy: Policy) -> str:
    """Why a live run is dead, or an empty string."""
    if run.phase not in (Phase.STARTED, Phase.CANCELING):
        return ""
    if run.worker_gone:
        return "its worker process is gone"
    sign = run.started_at if run.heartbeat_at is None else run.heartbeat_at
    silent = 0.0 if sign is None else now - sign
    # A CANCELING run no longer beats by design; Dagster's own cancel timeout ends it.
    # A clock that was set makes any heartbeat look old, or from the future, until the next one: a live run has that
    # within `watch_seconds`, a dead one never.
    may_beat = run.unchanged_seconds is not None and run.unchanged_seconds < policy.watch_seconds
    if run.phase is not Phase.STARTED or abs(silent) <= policy.heartbeat_timeout_seconds or may_beat:
        return ""
    if silent < 0:
        return f"its last heartbeat is {-silent:.0f} s in the future and none has followed: the clock was set back"
    return f"no heartbeat for {silent:.0f} s, expected one within {policy.heartbeat_timeout_seconds:.0f} s"


def _after(name: str, runs: Sequence[ObservedRun], now: float, policy: Policy) -> Decision:
    """What to do when the newest run has ended."""
    newest = runs[0]
    launch = Launch(f"{name}:after:{newest.run_id}")
    if newest.planned:
        due = due_after(newest.planned_stop_at or 0.0, policy.planned_grace_seconds, now)
        why = "it was stopped with its control room"
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
    """Failures up to and including the last healthy run, newest first; planned stops in between do not count."""
    failures = 0
    for run in runs:
        if run.phase is not Phase.FAILED and not run.planned:
            break
        failures += not run.planned
        if run.lived > policy.healthy_seconds:
            break
    return failures
