"""The supervisor sensors against a real instance, its runs made as the daemon and the workers would make them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest, SensorDefinition, SensorResult, build_sensor_context

from jobs import ingest, stream
from jobs.managed_runs import (
    HEARTBEAT_TAG,
    HOST_TAG,
    NAME_TAG,
    PID_TAG,
    PLANNED_STOP_TAG,
    TERMINAL_TAG,
    managed_runs,
    name_of,
)
from lakehouse.settings import Settings, load_settings
from sensors.supervisor import supervisors
from tests.support.dagster_runs import queued_run, started_run


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def keep_stream_running(settings: Settings | None = None) -> SensorDefinition:
    return supervisors(settings or load_settings())[1]


def tick(instance: DagsterInstance, settings: Settings | None = None) -> tuple[list[RunRequest], str]:
    """The run requests and the skip reason of one tick of `keep_stream_running`."""
    result = keep_stream_running(settings)(build_sensor_context(instance=instance))
    assert isinstance(result, SensorResult)
    reason = result.skip_reason.skip_message if result.skip_reason else ""
    return list(result.run_requests or []), reason or ""


def status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def alive(pid: int) -> dict[str, str]:
    return {HEARTBEAT_TAG: str(time.time() + 1), HOST_TAG: socket.gethostname(), PID_TAG: str(pid)}


def test_first_launch(instance: DagsterInstance) -> None:
    requests, _ = tick(instance)
    assert [(request.run_key, dict(request.tags)) for request in requests] == [("stream:first", {NAME_TAG: "stream"})]


def test_a_run_launched_by_hand_is_adopted(instance: DagsterInstance) -> None:
    run = queued_run(instance)
    assert tick(instance) == ([], f"stream: run {run.run_id[:8]} is waiting")


def test_runs_of_other_work_do_not_count(instance: DagsterInstance) -> None:
    queued_run(instance, {NAME_TAG: "ingest"})
    assert [request.run_key for request in tick(instance)[0]] == ["stream:first"]


def test_a_failure_is_relaunched_after_its_backoff(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started_run(instance)
    instance.report_run_failed(run)
    requests, reason = tick(instance)
    assert requests == []
    assert "failure 1 in a row; relaunch in 5 s" in reason
    now = time.time()
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 6)
    assert [request.run_key for request in tick(instance)[0]] == [f"stream:after:{run.run_id}"]


def test_a_terminal_error_is_not_hammered_on(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started_run(instance)
    instance.add_run_tags(run.run_id, {TERMINAL_TAG: "no Java found; expected 17 or 21"})
    instance.report_run_failed(run)
    now = time.time()
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 60)
    requests, reason = tick(instance)
    assert requests == []
    assert "no Java found; expected 17 or 21; relaunch in 2" in reason


def test_a_canceled_run_stays_ended(instance: DagsterInstance) -> None:
    run = started_run(instance)
    instance.report_run_canceled(run)
    requests, reason = tick(instance)
    assert requests == []
    assert reason.endswith("was ended by hand (canceled) and stays ended; to resume, launch the job stream by hand")


def test_a_run_that_ended_with_its_control_room_comes_back(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_run(instance)
    instance.add_run_tags(run.run_id, {PLANNED_STOP_TAG: str(time.time() + 0.1)})
    instance.report_run_canceled(run)
    now = time.time()
    assert tick(instance)[0] == []
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 11)
    assert [request.run_key for request in tick(instance)[0]] == [f"stream:after:{run.run_id}"]


def test_a_silent_run_is_failed_and_then_replaced(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started_run(instance)
    now = time.time()
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 59)
    assert "is started" in tick(instance)[1]
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 62)
    assert tick(instance) == ([], "stream: no heartbeat for 62 s, expected one within 60 s")
    assert status(instance, run.run_id) is DagsterRunStatus.FAILURE
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: now + 68)
    assert [request.run_key for request in tick(instance)[0]] == [f"stream:after:{run.run_id}"]


def test_a_run_whose_process_is_gone_is_failed_at_once(instance: DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = started_run(instance)
        instance.add_run_tags(run.run_id, alive(process.pid))
        assert "is started" in tick(instance)[1]
        process.kill()
    assert tick(instance) == ([], "stream: its worker process is gone")
    assert status(instance, run.run_id) is DagsterRunStatus.FAILURE


def test_a_process_on_another_host_is_not_looked_for(instance: DagsterInstance) -> None:
    run = started_run(instance)
    instance.add_run_tags(run.run_id, {**alive(2**22 + 1), HOST_TAG: "elsewhere"})
    assert "is started" in tick(instance)[1]


def test_a_cancel_that_its_dead_worker_never_heard_is_finished(instance: DagsterInstance) -> None:
    run = started_run(instance)
    instance.add_run_tags(run.run_id, alive(2**22 + 1))
    instance.report_run_canceling(run)
    tick(instance)
    assert status(instance, run.run_id) is DagsterRunStatus.CANCELED


def test_split_work_has_a_run_for_each_part(instance: DagsterInstance) -> None:
    settings = load_settings(split_streams=True, split_ingest=True)
    requests, _ = tick(instance, settings)
    assert [request.run_key for request in requests] == [
        "stream/bronze:first",
        "stream/silver:first",
        "stream/gold:first",
    ]
    for request in requests:
        layer = request.tags[NAME_TAG].removeprefix("stream/")
        assert request.run_config == {"ops": {"host_streams": {"config": {"layers": [layer]}}}}
    assert [one.name for one in managed_runs(settings, "ingest")] == [
        "ingest/binance",
        "ingest/kraken",
        "ingest/coinbase",
    ]


def test_the_names_of_runs_by_hand_are_those_of_the_supervisors() -> None:
    assert name_of("stream", ["gold", "bronze", "silver"], ["bronze", "silver", "gold"]) == "stream"
    assert name_of("stream", ["gold"], ["bronze", "silver", "gold"]) == "stream/gold"
    assert [one.name for one in managed_runs(load_settings(), "stream")] == ["stream"]
    assert ingest.tags[NAME_TAG] == "ingest"
    assert stream.tags[NAME_TAG] == "stream"
