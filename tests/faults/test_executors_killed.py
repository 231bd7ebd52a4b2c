"""A small form of `executors_killed`: an executor, a Python worker and a driver killed in one catch-up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.broker.embedded import EmbeddedBroker
from tests.faults.executors_killed import LAST_KILL, TARGETS, plan, run

SEED = 3
KILLS = len(TARGETS)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.spark
@pytest.mark.timeout(600)
def test_tables_are_exact_after_kills_of_each_kind(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(tmp_path, broker.bootstrap, SEED, KILLS, 16_000, batch=2_000, unit=400, say=print)
    with capsys.disabled():
        print(f"\n{figures}")
    assert figures.failures == []
    assert figures.kills == dict.fromkeys(TARGETS, 1)
    assert figures.driver_starts == 2
    assert figures.rows["silver/trades"] > 14_000
    assert figures.rows["silver/quarantine"] > 0
    assert figures.while_writing, "the seed has to kill in the middle of a file"
    assert sum(figures.files_of_nobody.values()) > 0


def test_a_plan_has_each_target_in_turn_and_spreads_the_kills() -> None:
    for seed in range(20):
        made = plan(seed, 10)
        assert made == plan(seed, 10)
        assert [one.progress for one in made] == sorted(one.progress for one in made)
        assert 0 <= made[0].progress <= made[-1].progress <= LAST_KILL
        for first in range(0, 9, 3):
            assert {one.target for one in made[first : first + 3]} == set(TARGETS)
    assert any(one.writing for one in plan(SEED, KILLS))
