"""Two short seeds of the fault suite, without Dagster: kills and faults for a minute, then exact tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.light_system import LightSystem
from tests.faults.scenario import Scenario, run

pytestmark = [pytest.mark.spark, pytest.mark.kafka, pytest.mark.timeout(700)]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_storm_leaves_nothing_lost_and_nothing_twice(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = Scenario(seed, minutes=0.75, rate=250.0, kills=6, faults=8, drain_seconds=300.0)
    outcome = run(scenario, "light", lambda home: LightSystem(home, scenario.rate), tmp_path / "home", print)
    with capsys.disabled():
        print(f"\n{outcome.line()}")
    assert outcome.failures == []
    assert outcome.kills
    assert outcome.figures.compared > 0
    assert outcome.figures.repaired > 0
