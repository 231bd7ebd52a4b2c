"""The single steps: each of both ways ends in the rows that it says it writes."""

from __future__ import annotations

import pytest

from benchmarks import steps


def test_each_step_is_measured_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BATCH_ROWS", 2_000)
    found = list(steps.steps(repeats=1))
    assert [step.unit for step in found] == ["ms a commit", "ms a commit", "µs a message"]
    assert all(way.runs == 1 and way.median > 0 for step in found for way in (step.library, step.ours))
