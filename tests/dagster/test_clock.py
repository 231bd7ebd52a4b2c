"""A clock that is set while runs live, as the supervisors see it: a heartbeat from the future proves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from dagster import DagsterInstance, DagsterRunStatus, SensorDefinition, SensorResult, build_sensor_context

from jobs.managed_runs import HEARTBEAT_TAG, HOST_TAG, PID_TAG
from lakehouse.continuity.gaps import LedgerGap
from lakehouse.settings import load_settings
from sensors.repair import decide_repair
from sensors.run_history import HeartbeatAges
from sensors.supervision_policy import FailDead, Launch, ObservedRun, Phase, Policy, Skip, decide
from sensors.supervisor import supervisors
from tests.dagster.test_supervision_policy import NOW, POLICY, run
from tests.support.dagster_runs import started_run

TEN_MINUTES = 600.0

SITUATIONS: dict[str, tuple[ObservedRun, type]] = {
    "from the future, first look": (run(Phase.STARTED, -TEN_MINUTES, 500), FailDead),
    "from the future, seen so for long": (run(Phase.STARTED, -TEN_MINUTES, 500, unchanged_seconds=15.0), FailDead),
    "from the future, and it may beat again": (run(Phase.STARTED, -TEN_MINUTES, 500, unchanged_seconds=9.0), Skip),
    "from the future by less than a time-out": (run(Phase.STARTED, -50, 500, unchanged_seconds=99.0), Skip),
    "set back while it lived: beats before it began": (
        run(Phase.STARTED, 3, 0, started_at=NOW + TEN_MINUTES, created_at=NOW + TEN_MINUTES),
        Skip,
    ),
    "set forward: no beat since": (run(Phase.STARTED, 61, 500, unchanged_seconds=0.0), Skip),
    "set forward: dead all the same": (run(Phase.STARTED, 61, 500, unchanged_seconds=20.0), FailDead),
    "never beat, began in the future": (run(Phase.STARTED, -TEN_MINUTES, None, unchanged_seconds=30.0), FailDead),
    "canceling does not beat": (run(Phase.CANCELING, -TEN_MINUTES, 500, unchanged_seconds=30.0), Skip),
    "a failure of the future waits no longer": (run(Phase.FAILED, -TEN_MINUTES), Launch),
    "a terminal one neither": (run(Phase.FAILED, -TEN_MINUTES, terminal_error="no Java"), Launch),
    "a planned stop neither": (run(Phase.CANCELED, 1, 500, planned_stop_at=NOW + TEN_MINUTES), Launch),
    "hosts differ by a little": (run(Phase.FAILED, -3), Skip),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_situations(situation: str) -> None:
    one, expected = SITUATIONS[situation]
    assert isinstance(decide("stream", [one], NOW, POLICY), expected)


def test_the_reason_names_the_clock() -> None:
    assert decide("stream", [run(Phase.STARTED, -TEN_MINUTES, 500)], NOW, POLICY) == FailDead(
        ("newest",), "its last heartbeat is 600 s in the future and none has followed: the clock was set back"
    )


def test_a_repair_of_the_future_does_not_hold_up_the_next() -> None:
    gaps = [LedgerGap("binance", "BTC/USDT", 5, 9)]
    failed = run(Phase.FAILED, -TEN_MINUTES)
    assert isinstance(decide_repair(gaps, [failed], NOW, Policy()), Launch)
    planned = replace(failed, planned_stop_at=NOW + TEN_MINUTES)
    assert isinstance(decide_repair(gaps, [planned], NOW, Policy()), Launch)


def test_beats_go_by_a_clock_that_nobody_sets() -> None:
    now = [100.0]
    beats = HeartbeatAges(lambda: now[0])
    assert beats.unchanged("a", "1.0") is None
    now[0] += 10
    assert beats.unchanged("a", "1.0") == 10
    assert beats.unchanged("b", "1.0") is None
    now[0] += 5
    assert beats.unchanged("a", "0.5") == 0  # back, but it has beaten
    beats.forget("a")
    assert beats.unchanged("a", "0.5") is None


# ------------------------------------------------------------------------------------------------ on a real instance


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def sensor() -> SensorDefinition:
    """The sensor `keep_stream_running`, with a heartbeat every second: a live run beats within 3 s."""
    return supervisors(load_settings(heartbeat_seconds=1))[1]


def tick(instance: DagsterInstance, sensor: SensorDefinition) -> str:
    result = sensor(build_sensor_context(instance=instance))
    assert isinstance(result, SensorResult)
    return (result.skip_reason.skip_message if result.skip_reason else "") or ""


def elsewhere(instance: DagsterInstance, seconds: float) -> str:
    """A run of a worker on another host, whose process cannot be looked for; its heartbeat is so far in the future."""
    one = started_run(instance)
    tags = {HEARTBEAT_TAG: str(time.time() + seconds), HOST_TAG: "elsewhere", PID_TAG: "7"}
    instance.add_run_tags(one.run_id, tags)
    return one.run_id


def status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    found = instance.get_run_by_id(run_id)
    assert found is not None
    return found.status


def test_a_dead_run_with_a_heartbeat_from_the_future(instance: DagsterInstance, sensor: SensorDefinition) -> None:
    run_id = elsewhere(instance, 1)
    assert "is started" in tick(instance, sensor)
    instance.add_run_tags(run_id, {HEARTBEAT_TAG: str(time.time() + 600)})  # its last, before the clock was set back
    assert "is started" in tick(instance, sensor)
    time.sleep(3.1)
    assert "in the future and none has followed: the clock was set back" in tick(instance, sensor)
    assert status(instance, run_id) is DagsterRunStatus.FAILURE


def test_a_live_run_outlives_a_clock_that_is_set_back_and_forth(
    instance: DagsterInstance, sensor: SensorDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, real = elsewhere(instance, 0), time.time
    for shift in (0.0, -600.0, -600.0, 900.0, 900.0, 0.0):
        monkeypatch.setattr("time.time", lambda by=shift: real() + by)
        assert "is started" in tick(instance, sensor)  # it has not beaten since the clock was set
        instance.add_run_tags(run_id, {HEARTBEAT_TAG: f"{time.time():.3f}"})
        assert "is started" in tick(instance, sensor)
        time.sleep(0.1)
        instance.add_run_tags(run_id, {HEARTBEAT_TAG: f"{time.time():.3f}"})
        assert "is started" in tick(instance, sensor)
    assert status(instance, run_id) is DagsterRunStatus.STARTED


def test_a_run_that_was_dead_before_the_supervisor_began(instance: DagsterInstance, sensor: SensorDefinition) -> None:
    run_id = elsewhere(instance, 600)
    assert "the clock was set back" in tick(instance, sensor)
    assert status(instance, run_id) is DagsterRunStatus.FAILURE
