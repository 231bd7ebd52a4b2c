"""Two short seeds of the fault suite, without Dagster: kills and faults for a minute, then exact tables.

The storms of both seeds pass over one lakehouse, one after the other: a start, a drain and a verdict cost more than a
storm, and the second storm hits tables, marks and checkpoints that the first one has left. `python -m tests.faults`
gives each seed a lakehouse of its own, and more time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse.settings import DEFAULT_SYMBOLS, VENUES
from tests.faults import plan, quiet
from tests.faults.light_system import LightSystem
from tests.faults.plan import Step, make_plan
from tests.faults.scenario import Scenario, run

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka, pytest.mark.lakehouse, pytest.mark.timeout(700)]

SEEDS = (1, 2)
#: Figures of each seed. So many kills are more than half of the deck; together they hit everything that can be killed.
SECONDS, KILLS, FAULTS = 20.0, 4, 6
TARGETS = ("ingest", "stream", "stream-jvm", "broker")


def storms() -> tuple[list[Step], float]:
    """The steps of all seeds, one after the other, and how many seconds they take."""
    steps: list[Step] = []
    began = 0.0
    for seed in SEEDS:
        # A `conflict` must not meet another fault of its venue, as within a seed: the ones before it must have settled.
        busy = [step.at + step.fault.seconds + plan.SETTLE for step in steps if step.fault is not None]
        began = max([began, *busy])
        drawn = make_plan(seed, SECONDS, TARGETS, KILLS, FAULTS, VENUES, DEFAULT_SYMBOLS)
        steps += [replace(step, at=began + step.at) for step in drawn]
        began += SECONDS
    return steps, began


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a storm of seconds. The work that is left is looked at all the same, and the verdict is no milder."""
    monkeypatch.setattr(plan, "LONGEST_GRACE", 5.0)
    monkeypatch.setattr(quiet, "TRADE_SECONDS", 4.0)
    monkeypatch.setattr(quiet, "STABLE_SECONDS", 5.0)  # the light system's trigger is 2 s
    monkeypatch.setattr(quiet, "LOOK_SECONDS", 1.0)


def test_short_storms_leave_nothing_lost_and_nothing_twice(
    impatient: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, seconds = storms()
    scenario = Scenario(SEEDS[0], seconds / 60, rate=250.0, kills=0, faults=0, steps=tuple(steps))
    outcome = run(scenario, "light", lambda home: LightSystem(home, scenario.rate), tmp_path / "home", print)
    with capsys.disabled():
        print(f"\n{outcome.line()}")
    assert outcome.failures == []
    assert outcome.kills
    assert outcome.figures.compared > 0
    assert outcome.figures.repaired > 0


def test_the_seeds_together_hit_everything_that_can_be_killed(impatient: None) -> None:
    steps, seconds = storms()
    assert {step.kill[0] for step in steps if step.kill} == set(TARGETS)
    assert sum(bool(step.kill) for step in steps) == KILLS * len(SEEDS)
    assert sum(step.fault is not None for step in steps) == FAULTS * len(SEEDS)
    assert max(step.at for step in steps) < seconds < 75
