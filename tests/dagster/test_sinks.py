"""The jobs of the sinks and their sensors, in a real instance and against a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    JobDefinition,
    SensorResult,
    build_sensor_context,
)
from pydantic import SecretStr

from assets.sinks import sink_check_key, sink_checks, sink_key, sink_specs
from assets.verdicts import latest_materializations, shown_verdict
from jobs import sink_postgres, sink_redis
from jobs.managed_runs import NAME_TAG, TERMINAL_TAG, TROUBLE_TAG, managed_runs
from lakehouse.lake.table_io import open_table
from lakehouse.settings import Settings, load_settings
from lakehouse.sinks import run, state
from lakehouse.sinks.stores import POSTGRES, REDIS, STORES, Store
from lakehouse.tables import GOLD_BARS_1M
from sensors.supervisor import supervisors
from tests.support.market_lake import put
from tests.support.postgres_server import PostgresServer, programs
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.rows import NOON_US, bar_row, empty_lake
from tests.support.sinks import postgres_equals_gold, redis_equals_gold, until

JOBS = {POSTGRES: sink_postgres, REDIS: sink_redis}
needs_postgres = pytest.mark.skipif(programs() is None, reason="no PostgreSQL server here")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")
URLS = {"postgres_url": SecretStr("postgresql://u:secret@h/d"), "redis_url": SecretStr("redis://u:secret@h/0")}


def tick(instance: DagsterInstance, settings: Settings, store: Store) -> tuple[list[tuple[str, str]], str]:
    """Names and keys of the runs that the sensor of a store launches, and why it launches none."""
    (sensor,) = [one for one in supervisors(settings) if one.name == f"keep_{store.job}_running"]
    assert sensor.job_name == store.job
    result = sensor(build_sensor_context(instance=instance))
    assert isinstance(result, SensorResult)
    launched = [(request.tags[NAME_TAG], str(request.run_key)) for request in result.run_requests or []]
    return launched, (result.skip_reason.skip_message if result.skip_reason else "") or ""


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_a_sink_is_launched_only_if_its_url_is_set(instance: DagsterInstance, store: Store) -> None:
    none = load_settings()
    assert tick(instance, none, store) == ([], f"{store.job}: no sink, because {store.variable} is not set")
    assert managed_runs(none, store.job) == ()
    settings = load_settings(**{store.field: URLS[store.field]})
    assert tick(instance, settings, store) == ([(store.job, f"{store.job}:first")], "")
    (other,) = [one for one in STORES if one is not store]
    assert tick(instance, settings, other)[0] == []


def test_a_running_sink_is_kept_and_a_failed_one_comes_back(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(**URLS)
    first = instance.create_run_for_job(sink_redis, tags=sink_redis.tags)
    assert tick(instance, settings, REDIS) == ([], f"sink_redis: run {first.run_id[:8]} is waiting")
    assert tick(instance, settings, POSTGRES)[0] == [("sink_postgres", "sink_postgres:first")]
    instance.report_run_failed(first)
    assert "failure 1 in a row; relaunch in " in tick(instance, settings, REDIS)[1]
    instance.add_run_tags(first.run_id, {TERMINAL_TAG: "Redis refused"})
    assert "Redis refused; relaunch in " in tick(instance, settings, REDIS)[1]
    later = time.time() + 301
    monkeypatch.setattr("sensors.supervisor.time.time", lambda: later)
    assert tick(instance, settings, REDIS)[0] == [("sink_redis", f"sink_redis:after:{first.run_id}")]


def test_assets_say_whether_something_keeps_them() -> None:
    for settings, words in ((load_settings(), "is not set"), (load_settings(**URLS), "keeps it like Gold")):
        for spec in sink_specs(settings):
            assert spec.description is not None
            assert spec.description.startswith("One ")
            assert words in spec.description
            assert "secret" not in f"{spec.description} {spec.metadata}"


def test_an_unset_sink_passes_its_check(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    definitions = Definitions(assets=sink_specs(settings), asset_checks=sink_checks(), resources={"settings": settings})
    assert run_checks(instance, definitions) == {
        "sinks/postgres_bars": (True, "No sink: LAKEHOUSE_POSTGRES_URL is not set."),
        "sinks/redis_latest": (True, "No sink: LAKEHOUSE_REDIS_URL is not set."),
    }


def run_checks(instance: DagsterInstance, definitions: Definitions) -> dict[str, tuple[bool, str]]:
    """Verdicts of a run by hand, as the UI launches it."""
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
    return {
        one.asset_key.to_user_string(): (one.passed, one.description or "")
        for one in result.get_asset_check_evaluations()
    }


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer(persistent=True, password="secret")
    yield one
    one.remove()


@pytest.fixture
def lake(tmp_path: Path, server: RedisServer) -> Settings:
    return lake_for(REDIS, server.url, tmp_path)


def lake_for(store: Store, url: str, folder: Path) -> Settings:
    often = {"report_seconds": 0.4, "check_seconds": 0.2, "heartbeat_seconds": 0.1}
    return empty_lake(folder / "home").model_copy(update={store.field: SecretStr(url), **often})


@contextmanager
def running(instance: DagsterInstance, job: JobDefinition, settings: Settings) -> Iterator[str]:
    """A run of a sink's job in a thread, from its start to its cancellation."""

    def execute() -> None:
        try:
            job.execute_in_process(
                resources={"settings": settings}, instance=instance, raise_on_error=False, tags=dict(job.tags)
            )
        except BaseException as error:  # Dagster's interruption is no Exception
            ended.append(error)

    ended: list[BaseException] = []
    thread = threading.Thread(target=execute)
    thread.start()
    until(lambda: bool(instance.get_runs()) and instance.get_runs()[0].status is DagsterRunStatus.STARTED)
    started = instance.get_runs()[0]
    try:
        yield started.run_id
    finally:
        instance.report_run_canceled(started)
        thread.join(60)
        assert not thread.is_alive()


def bars(number: int) -> list[dict[str, Any]]:
    return [bar_row(NOON_US + one * 60_000_000, revision=number, close=Decimal(number)) for one in range(number)]


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(REDIS, marks=needs_redis),
        pytest.param(POSTGRES, marks=[pytest.mark.slow, needs_postgres]),
    ],
    ids=lambda store: store.name,
)
def test_a_run_follows_gold_and_says_what_it_waits_for(
    instance: DagsterInstance, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "BEHIND_SECONDS", 0.1)
    monkeypatch.setattr(run, "LONGEST_WAIT_SECONDS", 1.0)
    server = PostgresServer() if store is POSTGRES else RedisServer(persistent=True, password="secret")
    lake = lake_for(store, server.url, tmp_path)
    key, silence = sink_key(store), f"{store.title} does not answer ("

    def shown() -> bool | None:
        return shown_verdict(instance, sink_check_key(store), latest_materializations(instance, {key}).get(key))

    def equal() -> bool:
        if isinstance(server, PostgresServer):
            return postgres_equals_gold(server.url, lake)
        with server.client() as client:
            return redis_equals_gold(client, lake)

    def tags() -> dict[str, str]:
        found = instance.get_run_by_id(run_id)
        assert found is not None
        assert found.status is DagsterRunStatus.STARTED
        return dict(found.tags)

    def reported() -> bool:
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        found = {name: one.value for name, one in event.asset_materialization.metadata.items()}
        return (found["gold_versions"], found["dagster/row_count"]) == (
            {"1m": open_table(lake, GOLD_BARS_1M).version(), "5m": 0},
            5,
        )

    try:
        put(lake, GOLD_BARS_1M, bars(3))
        with running(instance, JOBS[store], lake) as run_id:
            until(lambda: equal() and shown() is True)
            server.kill()
            put(lake, GOLD_BARS_1M, bars(5))
            until(lambda: silence in tags()[TROUBLE_TAG] and shown() is False)
            server.start()
            until(lambda: equal() and tags()[TROUBLE_TAG] == "" and shown() is True)
            until(reported)
            assert tags()[NAME_TAG] == store.job
    finally:
        server.remove()
    text = "\n".join(str(event) for event in instance.all_logs(run_id))
    assert "secret" not in text
    assert silence in text


@needs_redis
def test_a_check_by_hand_reads_the_store(
    instance: DagsterInstance, lake: Settings, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, GOLD_BARS_1M, bars(3))
    monkeypatch.setattr(state, "BEHIND_SECONDS", 0.0)
    definitions = Definitions(assets=sink_specs(lake), asset_checks=sink_checks(), resources={"settings": lake})
    passed, why = run_checks(instance, definitions)["sinks/redis_latest"]
    assert not passed
    assert "Redis has lacked 2 versions of bars_1m" in why
    with REDIS.open(lake) as sink:
        sink.look()
    assert run_checks(instance, definitions)["sinks/redis_latest"] == (
        True,
        "Redis holds Gold's newest version of 2 sizes.",
    )
    server.kill()
    passed, why = run_checks(instance, definitions)["sinks/redis_latest"]
    assert not passed
    assert "Redis does not answer" in why
    assert "secret" not in why


@needs_redis
@pytest.mark.parametrize("url", ["", "redis://:wrong@{place}"])
def test_a_refusal_ends_the_run_with_one_line(
    instance: DagsterInstance, lake: Settings, server: RedisServer, url: str
) -> None:
    url = url.format(place=server.url.partition("@")[2])
    settings = lake.model_copy(update={"redis_url": SecretStr(url) if url else None})
    result = sink_redis.execute_in_process(
        resources={"settings": settings}, instance=instance, raise_on_error=False, tags=dict(sink_redis.tags)
    )
    failure = result.failure_data_for_node("host_sink_redis")
    assert failure is not None
    assert failure.user_failure_data is not None
    line = failure.user_failure_data.description or ""
    assert ("Redis refused" if url else "no LAKEHOUSE_REDIS_URL") in line
    assert "\n" not in line
    ended = instance.get_run_by_id(result.run_id)
    assert ended is not None
    assert ended.tags[TERMINAL_TAG] == line


def test_each_store_has_a_job() -> None:
    assert {store.job for store in STORES} == {job.name for job in JOBS.values()}
    assert all((job.name, job.tags[NAME_TAG]) == (store.job, store.job) for store, job in JOBS.items())
