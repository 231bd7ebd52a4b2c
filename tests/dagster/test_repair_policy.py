"""The decision of the sensor `mend_holes`, without Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.continuity.gaps import LedgerGap
from lakehouse.repair.run import digest, ids_still_open
from sensors.repair import BACKOFF_CAP_SECONDS, BACKOFF_SECONDS, decide_repair
from sensors.supervision_policy import LIVE_PHASES, Launch, ObservedRun, Phase, Policy, Skip, live_or_dead
from tests.dagster.test_supervision_policy import observed_runs

NOW = 1_000_000.0
POLICY = Policy(backoff_base_seconds=BACKOFF_SECONDS, backoff_cap_seconds=BACKOFF_CAP_SECONDS)
GAPS = [LedgerGap("binance", "BTC/USDT", 10, 19), LedgerGap("kraken", "ETH/USDT", 5, 5)]
SAME, OTHER = digest(GAPS), digest(GAPS[:1])


def run(phase: Phase, ago: float, gaps: str = SAME, run_id: str = "newest", **more: Any) -> ObservedRun:
    """A run that ended `ago` seconds before NOW, ten seconds after its start."""
    start = NOW - ago - 10
    observed = ObservedRun(run_id, phase, start - 1, start, None if phase in LIVE_PHASES else NOW - ago, NOW - ago)
    return replace(observed, gaps=gaps, **more)


def done(ago: float, gaps: str = SAME) -> ObservedRun:
    return run(Phase.SUCCEEDED, ago, gaps)


AGAIN = Launch("repair:after:newest")
SITUATIONS: dict[str, tuple[list[ObservedRun], Launch | type]] = {
    "never repaired": ([], Launch("repair:first")),
    "the last run was about other gaps": ([done(1, OTHER), done(40)], AGAIN),
    "changed nothing, too soon": ([done(29)], Skip),
    "changed nothing, waited": ([done(30)], AGAIN),
    "changed nothing twice, too soon": ([done(59), done(99)], Skip),
    "changed nothing twice, waited": ([done(60), done(99)], AGAIN),
    "something changed in between": ([done(30), done(99, OTHER), done(200)], AGAIN),
    "changed nothing for long, too soon": ([done(599), *[done(9999)] * 20], Skip),
    "changed nothing for long, waited": ([done(600), *[done(9999)] * 20], AGAIN),
    "failed, too soon": ([run(Phase.FAILED, 29)], Skip),
    "failed before it knew the gaps, too soon": ([run(Phase.FAILED, 29, "")], Skip),
    "failed before it knew the gaps, waited": ([run(Phase.FAILED, 30, "")], AGAIN),
    "failed with new gaps each time, too soon": ([run(Phase.FAILED, 59, OTHER), run(Phase.FAILED, 99, "x")], Skip),
    "terminal, too soon": ([run(Phase.FAILED, 599, terminal_error="no such symbol")], Skip),
    "terminal, waited": ([run(Phase.FAILED, 600, terminal_error="no such symbol")], AGAIN),
    "canceled by hand": ([run(Phase.CANCELED, 1e6)], Skip),
    "canceled by hand, then by hand again": ([done(30), run(Phase.CANCELED, 1e6)], AGAIN),
    "stopped with the lakehouse, too soon": ([run(Phase.CANCELED, 1, planned_stop_at=NOW - 9)], Skip),
    "stopped with the lakehouse": ([run(Phase.CANCELED, 1, planned_stop_at=NOW - 10)], AGAIN),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_situations(situation: str) -> None:
    runs, expected = SITUATIONS[situation]
    found = decide_repair(GAPS, runs, NOW, POLICY)
    assert found == expected if isinstance(expected, Launch) else isinstance(found, expected)


def test_reasons_are_for_people() -> None:
    assert decide_repair(GAPS, [run(Phase.CANCELED, 9)], NOW, POLICY) == Skip(
        "run newest was canceled by hand, so nothing more is repaired; to resume, launch the job repair by hand"
    )
    assert decide_repair(GAPS, [done(9), done(99)], NOW, POLICY) == Skip(
        "2 open gaps; run newest: the same gaps were left open 2 times in a row; next run in 51 s"
    )
    gaps = [GAPS[0], replace(GAPS[1], tries=1)]
    assert decide_repair(gaps, [done(9)], NOW, POLICY) == Skip(
        "1 open gaps, 1 to be asked for again; run newest: the same gaps were left open 1 times in a row; "
        "next run in 21 s"
    )


@given(observed_runs)
def test_never_against_a_person_and_never_beside_a_live_run(runs: list[ObservedRun]) -> None:
    decision = live_or_dead("repair", runs, NOW, POLICY) or decide_repair(GAPS, runs, NOW, POLICY)
    if any(one.phase in LIVE_PHASES for one in runs):
        assert not isinstance(decision, Launch)
    if runs and runs[0].phase is Phase.CANCELED and not runs[0].planned:
        assert not isinstance(decision, Launch)


@given(observed_runs, st.sampled_from(["", SAME, OTHER]))
def test_gaps_are_repaired_again_within_the_cap(runs: list[ObservedRun], gaps: str) -> None:
    ended = [replace(one, gaps=gaps) for one in runs if one.phase in (Phase.FAILED, Phase.SUCCEEDED)]
    later = NOW + BACKOFF_CAP_SECONDS + POLICY.planned_grace_seconds
    if ended:
        assert decide_repair(GAPS, ended, later, POLICY) == Launch(f"repair:after:{ended[0].run_id}")


gap_sets = st.lists(
    st.builds(
        lambda venue, first, length: LedgerGap(venue, "BTC/USDT", first, first + length),
        st.sampled_from(["binance", "kraken"]),
        st.integers(0, 30),
        st.integers(0, 5),
    ),
    max_size=6,
)


def ids(gaps: Sequence[LedgerGap]) -> set[tuple[str, int]]:
    return {(gap.venue, number) for gap in gaps for number in range(gap.first_id, gap.last_id + 1)}


@given(gap_sets, gap_sets)
def test_what_of_the_asked_ids_is_still_open(asked: list[LedgerGap], now_open: list[LedgerGap]) -> None:
    expected = sum(len(ids([gap]) & ids(now_open)) for gap in asked)
    assert ids_still_open(asked, now_open) == expected


@given(gap_sets)
def test_a_digest_is_of_the_set(gaps: list[LedgerGap]) -> None:
    assert digest(gaps) == digest(gaps[::-1])
    assert digest(gaps) != digest([*gaps, LedgerGap("coinbase", "BTC/USDT", 1, 1)])
