"""Words of status on ingest and the streams. Dagster's answers are those that a real one gave (its GraphQL schema)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from jobs.managed_runs import managed_runs
from lakehouse.broker.stored import stored_end_offsets
from lakehouse.local_stack.display import View, plain_line
from lakehouse.settings import Settings, load_settings
from lakehouse.status.snapshot import collect
from lakehouse.status.supervision import Work, read_works, work_names
from tests.status.test_snapshot import shown
from tests.support.rows import empty_lake

CREATED = 1_790_649_900.0


def run(status: str, created: float = CREATED, **tags: str) -> dict[str, Any]:
    return {
        "runId": "1a2b3c4d-0000",
        "status": status,
        "creationTime": created,
        "endTime": CREATED + 60 if status in ("CANCELED", "SUCCESS", "FAILURE") else None,
        "tags": [{"key": key.replace("__", "/"), "value": value} for key, value in tags.items()],
    }


class _Answers(BaseHTTPRequestHandler):
    data: dict[str, Any] = {}  # noqa: RUF012 - set by each test

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"data": self.data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def dagster(tmp_path: Path) -> Iterator[Settings]:
    """Settings whose Dagster answers with `_Answers.data`."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield empty_lake(tmp_path).model_copy(update={"dagster_port": server.server_port})
    server.shutdown()
    thread.join()
    server.server_close()


def answer(*runs: list[dict[str, Any]], sensors: str = "RUNNING") -> None:
    """The runs of `ingest`, `stream`, `sink_postgres` and `sink_redis`, in this order; none of those left out."""
    jobs = ("ingest", "stream", "sink_postgres", "sink_redis")
    _Answers.data = {f"run{number}": {"results": []} for number in range(len(jobs))}
    _Answers.data |= {f"run{number}": {"results": found} for number, found in enumerate(runs)}
    _Answers.data |= {job: {"sensorState": {"status": sensors}} for job in jobs}


@pytest.mark.parametrize(
    ("runs", "sensors", "state", "by_hand"),
    [
        ([run("STARTED")], "RUNNING", "running", False),
        ([run("QUEUED")], "RUNNING", "starting", False),
        ([run("QUEUED"), run("STARTED")], "RUNNING", "running", False),
        ([run("CANCELING")], "RUNNING", "stopping", False),
        ([], "RUNNING", "not started yet", False),
        ([run("FAILURE")], "RUNNING", "failed, will be started again", False),
        (
            [run("CANCELED")],
            "RUNNING",
            "stopped by hand at 02:46:00 UTC, run 1a2b3c4d; launch the job stream to resume",
            True,
        ),
        (
            [run("SUCCESS")],
            "RUNNING",
            "stopped by hand at 02:46:00 UTC, run 1a2b3c4d; launch the job stream to resume",
            True,
        ),
        ([run("CANCELED", lakehouse__planned_stop=str(CREATED + 59))], "RUNNING", "starting", False),
        # A mark that was copied from the run which this one re-executes says nothing of it.
        (
            [run("CANCELED", lakehouse__planned_stop=str(CREATED - 1))],
            "RUNNING",
            "stopped by hand at 02:46:00 UTC, run 1a2b3c4d; launch the job stream to resume",
            True,
        ),
        ([run("STARTED")], "STOPPED", "running; its sensor keep_stream_running is turned off", False),
        (
            [run("FAILURE")],
            "STOPPED",
            "stopped by hand: the sensor keep_stream_running is turned off; turn it on to resume",
            True,
        ),
    ],
)
def test_states(dagster: Settings, runs: list[dict[str, Any]], sensors: str, state: str, by_hand: bool) -> None:
    answer([run("STARTED")], runs, sensors=sensors)
    assert read_works(dagster)[1] == Work("stream", state, by_hand)


def test_status_and_the_live_line_say_what_was_stopped_by_hand(dagster: Settings) -> None:
    answer([run("STARTED")], [run("CANCELED")])
    snapshot = collect(dagster)
    assert "stream: stopped by hand at 02:46:00 UTC" in shown(snapshot)
    assert "ingest: running" in shown(snapshot)
    view = View(dagster, snapshot=snapshot)
    assert "stream stopped by hand" in plain_line(view)
    assert "ingest" not in plain_line(view)
    assert collect(dagster, is_supervised=False).works == ()


def test_nobody_answers(tmp_path: Path) -> None:
    lake = empty_lake(tmp_path).model_copy(update={"dagster_port": 1})
    assert read_works(lake) == ()
    assert "No Dagster answers for this lakehouse" in shown(collect(lake))


@pytest.mark.parametrize(
    ("redis", "sink", "state"),
    [
        (None, [], None),
        (None, [run("CANCELED", lakehouse__planned_stop=str(CREATED + 59))], None),
        (None, [run("STARTED")], "running"),  # by a Dagster that knows the URL, unlike who asks
        (None, [run("FAILURE")], "failed, will be started again"),
        ("redis://h/0", [], "not started yet"),
        ("redis://h/0", [run("STARTED", lakehouse__trouble="")], "running"),
        ("redis://h/0", [run("STARTED", lakehouse__trouble="no answer")], "running, but no answer"),
    ],
)
def test_sinks(dagster: Settings, redis: str | None, sink: list[dict[str, Any]], state: str | None) -> None:
    settings = dagster.model_copy(update={"redis_url": None if redis is None else SecretStr(redis)})
    answer([run("STARTED")], [run("STARTED")], [], sink)
    assert read_works(settings)[2:] == (() if state is None else (Work("sink_redis", state),))
    text = shown(collect(settings))
    unset = "LAKEHOUSE_POSTGRES_URL and LAKEHOUSE_REDIS_URL" if state is None else "LAKEHOUSE_POSTGRES_URL"
    assert f"No sink where {unset} is not set" in text
    assert state is None or f"sink_redis: {state}" in text


@pytest.mark.parametrize(
    ("ingest", "streams", "names"),
    [
        (False, False, ("ingest", "stream")),
        (True, False, ("ingest/binance", "ingest/coinbase", "stream")),
        (False, True, ("ingest", "stream/bronze", "stream/silver", "stream/gold")),
    ],
)
def test_every_managed_run_has_its_name(ingest: bool, streams: bool, names: tuple[str, ...]) -> None:
    settings = load_settings(split_ingest=ingest, split_streams=streams, venues=("binance", "coinbase"))
    assert work_names(settings) == names
    assert tuple(run.name for job in ("ingest", "stream") for run in managed_runs(settings, job)) == names


def test_stored_end_offsets(tmp_path: Path) -> None:
    assert stored_end_offsets(tmp_path, ["t"]) == {}
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "replication-offset-checkpoint"
    file.write_text("0\n3\nt 0 12\nt 1 7\nother 0 99\n", encoding="utf-8")
    assert stored_end_offsets(tmp_path, ["t", "u"]) == {"t": {0: 12, 1: 7}}
    file.write_text("1\n1\nt 0 12\n", encoding="utf-8")
    assert stored_end_offsets(tmp_path, ["t"]) == {}
    file.write_text("0\n1\nt zero 12\n", encoding="utf-8")
    assert stored_end_offsets(tmp_path, ["t"]) == {}
