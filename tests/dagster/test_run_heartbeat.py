"""The heartbeat of a long-running run, and the planned stop, against a real instance."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterExecutionInterruptedError, DagsterInstance, DagsterRunStatus

from jobs.managed_runs import HEARTBEAT_TAG, NAME_TAG, PID_TAG, PLANNED_STOP_TAG, TERMINAL_TAG
from jobs.run_heartbeat import RunHeartbeat
from jobs.shutdown import end_live_runs
from tests.support.dagster_runs import queued_run, started_run

BEAT = 0.05


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """On disk, as in a real Dagster: SQLite in memory locks its tables when two threads meet."""
    with DagsterInstance.local_temp(str(tmp_path)) as on_disk:
        yield on_disk


def tags(instance: DagsterInstance, run_id: str) -> dict[str, str]:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return dict(run.tags)


def status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def hold_while(instance: DagsterInstance, run_id: str, happens: Callable[[], object]) -> None:
    """A run's body that is busy when something happens."""
    with RunHeartbeat(instance, run_id, "stream", BEAT) as heartbeat:
        happens()
        heartbeat.hold(10)


def test_it_beats(instance: DagsterInstance) -> None:
    run = started_run(instance, {PLANNED_STOP_TAG: "1", TERMINAL_TAG: "of the run before"})
    with RunHeartbeat(instance, run.run_id, "stream/gold", BEAT) as heartbeat:
        first = float(tags(instance, run.run_id)[HEARTBEAT_TAG])
        deadline = time.monotonic() + 10  # a busy machine may be late with a beat
        while float(tags(instance, run.run_id)[HEARTBEAT_TAG]) <= first and time.monotonic() < deadline:
            heartbeat.hold(BEAT)
        found = tags(instance, run.run_id)
        assert float(found[HEARTBEAT_TAG]) > first
        assert (found[NAME_TAG], found[PID_TAG]) == ("stream/gold", str(os.getpid()))
        assert (found[PLANNED_STOP_TAG], found[TERMINAL_TAG]) == ("", "")
    assert tags(instance, run.run_id)[PLANNED_STOP_TAG] == ""


def test_a_run_ended_from_outside_is_left_as_it_is(instance: DagsterInstance) -> None:
    run = started_run(instance)
    began = time.monotonic()
    with pytest.raises(DagsterExecutionInterruptedError, match="ended from outside: CANCELED"):
        hold_while(instance, run.run_id, lambda: instance.report_run_canceled(run))
    assert time.monotonic() - began < 5
    assert tags(instance, run.run_id)[PLANNED_STOP_TAG] == ""


def test_a_lost_parent_ends_it_and_asks_for_a_relaunch(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_run(instance)
    adopter = os.getppid() + 1  # any other than now: under a supervisor that is gone, that is 1 already
    with pytest.raises(DagsterExecutionInterruptedError, match=r"code server .* is gone"):
        hold_while(instance, run.run_id, lambda: monkeypatch.setattr(os, "getppid", lambda: adopter))
    assert float(tags(instance, run.run_id)[PLANNED_STOP_TAG]) == pytest.approx(time.time(), abs=5)


def test_an_interrupt_that_nobody_asked_for_asks_for_a_relaunch(instance: DagsterInstance) -> None:
    run = started_run(instance)
    with pytest.raises(KeyboardInterrupt), RunHeartbeat(instance, run.run_id, "stream", BEAT):
        raise KeyboardInterrupt
    assert tags(instance, run.run_id)[PLANNED_STOP_TAG]


def test_a_requested_cancel_does_not_ask_for_a_relaunch(instance: DagsterInstance) -> None:
    run = started_run(instance)
    with pytest.raises(DagsterExecutionInterruptedError):
        hold_while(instance, run.run_id, lambda: instance.report_run_canceling(run))
    assert tags(instance, run.run_id)[PLANNED_STOP_TAG] == ""


def test_a_storage_error_costs_a_beat_and_not_the_run(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_run(instance)
    asked: list[str] = []

    def broken(run_id: str) -> Any:
        asked.append(run_id)
        raise OSError("disk I/O error")

    with RunHeartbeat(instance, run.run_id, "stream", BEAT) as heartbeat:
        with monkeypatch.context() as patch:
            patch.setattr(instance, "get_run_by_id", broken)
            heartbeat.hold(6 * BEAT)
        assert len(asked) > 1
        healed = time.time()
        heartbeat.hold(6 * BEAT)
        assert float(tags(instance, run.run_id)[HEARTBEAT_TAG]) >= healed - 0.001


def test_a_terminal_error_is_recorded(instance: DagsterInstance) -> None:
    run = started_run(instance)
    with RunHeartbeat(instance, run.run_id, "stream", BEAT) as heartbeat:
        heartbeat.mark_terminal("no Java found")
    assert tags(instance, run.run_id)[TERMINAL_TAG] == "no Java found"


def test_a_planned_stop_ends_every_live_run_and_marks_it(instance: DagsterInstance) -> None:
    live = [queued_run(instance), started_run(instance)]
    ended = started_run(instance)
    instance.report_run_failed(ended)
    assert end_live_runs(instance, seconds=0.5) == (2, 2)
    for run in live:
        assert status(instance, run.run_id) is DagsterRunStatus.CANCELED
        assert float(tags(instance, run.run_id)[PLANNED_STOP_TAG]) == pytest.approx(time.time(), abs=5)
    assert status(instance, ended.run_id) is DagsterRunStatus.FAILURE
    assert PLANNED_STOP_TAG not in tags(instance, ended.run_id)


def test_a_planned_stop_of_nothing_returns_at_once(instance: DagsterInstance) -> None:
    began = time.monotonic()
    assert end_live_runs(instance, seconds=5) == (0, 0)
    assert time.monotonic() - began < 1
