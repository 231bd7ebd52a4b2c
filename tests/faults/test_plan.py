"""The plan of a seed: repeatable, all of it possible, each target and kind in its turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lakehouse.settings import DEFAULT_SYMBOLS, VENUES
from lakehouse.simulator.faults.kinds import KINDS, read_fault
from tests.faults.outcome import HEADER, Outcome, read_json, table, write_json
from tests.faults.plan import SETTLE, SOCKET_UNITS, Step, make_plan
from tests.faults.verdict import Figures

TARGETS = ("ingest", "stream", "stream-jvm", "broker", "daemon", "code-server")
SCHEDULED = {kind.name for kind in KINDS.values() if kind.scheduled}


def plan_of(seed: int, seconds: float = 600.0, kills: int = 70, faults: int = 50) -> list[Step]:
    return make_plan(seed, seconds, TARGETS, kills, faults, VENUES, DEFAULT_SYMBOLS)


def test_a_seed_is_a_plan() -> None:
    assert plan_of(7) == plan_of(7)
    assert plan_of(7) != plan_of(8)


@pytest.mark.parametrize("seed", range(1, 21))
def test_everything_has_its_turn_in_time_and_the_simulator_takes_it(seed: int) -> None:
    steps = plan_of(seed)
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert all(0 <= step.at <= 600 for step in steps)
    kills = Counter(step.kill[0] for step in steps if step.kill)
    assert kills.total() == 70
    assert set(kills) == set(TARGETS)
    assert all(sorted(step.kill) == sorted(TARGETS) for step in steps if step.kill), "who is dead has a stand-in"
    faults = [step.fault for step in steps if step.fault]
    assert {fault.kind for fault in faults} == SCHEDULED
    for fault in faults:
        read_fault(fault.message, VENUES, DEFAULT_SYMBOLS)


@pytest.mark.parametrize("seed", range(1, 21))
def test_a_wrong_repeat_never_meets_another_fault_on_its_sockets(seed: int) -> None:
    spans = [
        (step.fault.kind, step.fault.venue, step.at, step.at + step.fault.seconds + SETTLE)
        for step in plan_of(seed, faults=200)
        if step.fault and KINDS[step.fault.kind].unit in SOCKET_UNITS
    ]
    conflicts = [span for span in spans if span[0] == "conflict"]
    assert conflicts
    for conflict in conflicts:
        for other in spans:
            same_venue = other[1] in (None, conflict[1])
            overlap = conflict[2] < other[3] and other[2] < conflict[3]
            assert other is conflict or not (same_venue and overlap), (conflict, other)


def test_kills_and_faults_may_meet_and_may_be_none() -> None:
    steps = plan_of(3)
    kill_times = {step.at for step in steps if step.kill}
    assert any(step.fault and step.at in kill_times for step in steps)
    assert plan_of(3, kills=0, faults=0) == []
    assert all(step.fault for step in plan_of(3, kills=0))


def test_outcomes_are_kept_and_told(tmp_path: Path) -> None:
    good = Outcome(1, "light", 1.25, 250.0, {"broker": 2}, {"drop": 3}, {"drop": 90}, Figures(1000, 900, 8, 70, 3, 12))
    good.figures.quarantined, good.drain_seconds = {"conflict": 4}, 21.0
    good.storm_seconds = 75.0
    bad = Outcome(2, "light", 1.25, 250.0, failures=["silver/trades: 1 differences"])
    write_json(tmp_path / "r.json", [good, bad], "python -m tests.faults --seeds 1-2")
    assert read_json(tmp_path / "r.json") == [good, bad]
    assert "seed 1 passed" in good.line()
    assert "seed 2 FAILED" in bad.line()
    lines = table([good, bad]).splitlines()
    assert lines[0] == HEADER
    assert {line.count("|") for line in lines} == {HEADER.count("|")}
    assert lines[2].startswith("| 1 | light | 1.2 | 2 | 3 | 1,000 | 900 | 70 | 3 | 12 | 4 | 21 s | passed |")
    assert lines[-1].endswith("| 1 of 2 |")
