"""The supervisor's decision: a table of situations, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.supervision_policy import LIVE_PHASES, FailDead, Launch, ObservedRun, Phase, Policy, Skip, backoff, decide

NOW = 1_000_000.0
POLICY = Policy()


def run(
    phase: Phase, ago: float = 100.0, lived: float | None = 0.0, run_id: str = "newest", **more: object
) -> ObservedRun:
    """A run that ended (or, live, was last seen) `ago` seconds before NOW, after living for `lived` seconds."""
    start = NOW - ago - (lived or 0.0)
    observed = ObservedRun(
        run_id,
        phase,
        created_at=start - 1,
        started_at=None if phase is Phase.WAITING else start,
        ended_at=None if phase in LIVE_PHASES else NOW - ago,
        heartbeat_at=None if lived is None else NOW - ago,
    )
    return replace(observed, **more)  # type: ignore[arg-type]


FAILED_TWICE = [run(Phase.FAILED, 6), run(Phase.FAILED, 20, run_id="older")]

SITUATIONS: dict[str, tuple[list[ObservedRun], Launch | type]] = {
    "nothing yet": ([], Launch("stream:first")),
    "waiting": ([run(Phase.WAITING, 500, None)], Skip),
    "healthy": ([run(Phase.STARTED, 3, 500)], Skip),
    "starting up, no heartbeat yet": ([run(Phase.STARTED, 59, None)], Skip),
    "started and never beat": ([run(Phase.STARTED, 61, None)], FailDead),
    "silent for long": ([run(Phase.STARTED, 61, 500)], FailDead),
    "its worker is gone": ([run(Phase.STARTED, 1, 500, worker_gone=True)], FailDead),
    "canceling": ([run(Phase.CANCELING, 500, 500)], Skip),
    "canceling and its worker is gone": ([run(Phase.CANCELING, 1, 500, worker_gone=True)], FailDead),
    "canceled by hand": ([run(Phase.CANCELED, 1e6, 500)], Skip),
    "ended by itself": ([run(Phase.SUCCEEDED, 1e6, 500)], Skip),
    "first failure, too soon": ([run(Phase.FAILED, 4)], Skip),
    "first failure, waited": ([run(Phase.FAILED, 5)], Launch("stream:after:newest")),
    "second failure, too soon": (FAILED_TWICE, Skip),
    "second failure, waited": ([replace(FAILED_TWICE[0], ended_at=NOW - 10), FAILED_TWICE[1]], Launch),
    "failure after a healthy run": ([run(Phase.FAILED, 5, 61), *[run(Phase.FAILED)] * 9], Launch),
    "failures before a cancel do not count": (
        [run(Phase.FAILED, 5), run(Phase.CANCELED, 50, 0), *[run(Phase.FAILED)] * 9],
        Launch,
    ),
    "planned stop, lakehouse still stopping": ([run(Phase.CANCELED, 1, 500, planned_stop_at=NOW - 9)], Skip),
    "planned stop, new lakehouse": ([run(Phase.CANCELED, 1, 500, planned_stop_at=NOW - 10)], Launch),
    "interrupted with everything": ([run(Phase.FAILED, 11, 1, planned_stop_at=NOW - 11), *FAILED_TWICE], Launch),
    "mark of the run it re-executes": ([run(Phase.CANCELED, 1, 500, planned_stop_at=NOW - 9999)], Skip),
    "terminal, too soon": ([run(Phase.FAILED, 299, terminal_error="no Java")], Skip),
    "terminal, waited": ([run(Phase.FAILED, 300, terminal_error="no Java")], Launch),
    "a dead one beside a live one": ([run(Phase.STARTED, 1, 9), run(Phase.STARTED, 99, 9, run_id="dead")], FailDead),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_situations(situation: str) -> None:
    runs, expected = SITUATIONS[situation]
    found = decide("stream", runs, NOW, POLICY)
    assert found == expected if isinstance(expected, Launch) else isinstance(found, expected)


def test_reasons_are_for_people() -> None:
    canceled = decide("stream/gold", [run(Phase.CANCELED, 9, 9)], NOW, POLICY)
    assert canceled == Skip(
        "stream/gold: run newest was ended by hand (canceled) and stays ended; to resume, launch the job stream by hand"
    )
    assert decide("stream", FAILED_TWICE, NOW, POLICY) == Skip(
        "stream: run newest ended: failure 2 in a row; relaunch in 4 s"
    )
    terminal = decide("stream", [run(Phase.FAILED, 0, terminal_error="no Java found")], NOW, POLICY)
    assert terminal == Skip("stream: run newest ended: no Java found; relaunch in 300 s")


@given(st.integers(1, 10_000))
def test_backoff_grows_up_to_the_cap(failures: int) -> None:
    assert POLICY.backoff_base_seconds <= backoff(failures, POLICY) <= POLICY.backoff_cap_seconds
    assert backoff(failures, POLICY) <= backoff(failures + 1, POLICY)


times = st.floats(NOW - 1e5, NOW, allow_nan=False)
observed_runs = st.lists(
    st.builds(
        ObservedRun,
        run_id=st.uuids().map(str),
        phase=st.sampled_from(Phase),
        created_at=times,
        started_at=st.none() | times,
        ended_at=st.none() | times,
        heartbeat_at=st.none() | times,
        planned_stop_at=st.none() | times,
        worker_gone=st.booleans(),
        terminal_error=st.sampled_from(["", "no Java"]),
    ),
    max_size=6,
)


@given(observed_runs)
def test_never_a_second_run_and_never_against_a_person(runs: list[ObservedRun]) -> None:
    decision = decide("stream", runs, NOW, POLICY)
    if any(one.phase in LIVE_PHASES for one in runs):
        assert not isinstance(decision, Launch)
    if runs and runs[0].phase in (Phase.CANCELED, Phase.SUCCEEDED) and not runs[0].planned:
        assert not isinstance(decision, Launch)


@given(observed_runs)
def test_only_live_runs_are_failed(runs: list[ObservedRun]) -> None:
    decision = decide("stream", runs, NOW, POLICY)
    if isinstance(decision, FailDead):
        assert set(decision.run_ids) <= {one.run_id for one in runs if one.phase in (Phase.STARTED, Phase.CANCELING)}


@given(observed_runs)
def test_a_failed_stream_comes_back_within_the_cap(runs: list[ObservedRun]) -> None:
    ended = [one for one in runs if one.phase is Phase.FAILED or (one.planned and one.phase not in LIVE_PHASES)]
    later = NOW + POLICY.backoff_cap_seconds + POLICY.planned_grace_seconds
    if ended:
        assert decide("stream", ended, later, POLICY) == Launch(f"stream:after:{ended[0].run_id}")
