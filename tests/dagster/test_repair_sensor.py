"""The ticks of the sensor `mend_holes` on a real instance."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRequest, SensorResult, build_sensor_context
from dagster._core.events import DagsterEvent, DagsterEventType

from jobs import repair
from jobs.managed_runs import GAPS_TAG, HEARTBEAT_TAG, HOST_TAG, NAME_TAG, PID_TAG, PLANNED_STOP_TAG, TERMINAL_TAG
from lakehouse.continuity.gaps import MOST_AGAIN, LedgerGap, gaps_to_repair, open_gaps
from lakehouse.lake.table_io import append_rows, table_uri
from lakehouse.repair.run import digest
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import SILVER_CONTINUITY
from sensors.repair import repair_sensor
from tests.support.rows import empty_lake, range_row

GAPS = [LedgerGap("binance", "BTC/USDT", 10, 19), LedgerGap("kraken", "ETH/USDT", 5, 5)]


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path / "home")


def ledger_row(state: str, first: int, last: int, age: float = 600.0) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    return range_row(first, last, state, ts_first=now, ts_last=now, since=now - dt.timedelta(seconds=age))


def tick(instance: DagsterInstance, settings: Settings) -> tuple[list[RunRequest], str]:
    result = repair_sensor(settings)(build_sensor_context(instance=instance))
    assert isinstance(result, SensorResult)
    reason = result.skip_reason.skip_message if result.skip_reason else ""
    return list(result.run_requests or []), reason or ""


def started(instance: DagsterInstance, **tags: str) -> DagsterRun:
    run = instance.create_run_for_job(repair, tags={NAME_TAG: "repair", **tags})
    event = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name)
    instance.report_dagster_event(event, run.run_id)
    return run


def succeeded(instance: DagsterInstance, settings: Settings) -> DagsterRun:
    run = started(instance, **{GAPS_TAG: digest(open_gaps(settings))})
    event = DagsterEvent(event_type_value=DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
    instance.report_dagster_event(event, run.run_id)
    return run


def test_before_there_is_a_lake_there_is_nothing_to_repair(instance: DagsterInstance, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "nowhere")
    assert tick(instance, settings) == ([], "no gap has been open for 120 s, none is due again")
    assert not settings.home.exists()


def test_an_old_gap_sends_for_a_repair_and_a_young_one_does_not(instance: DagsterInstance, lake: Settings) -> None:
    rows = [ledger_row("present", 1, 9), ledger_row("open", 10, 19, 100), ledger_row("unavailable", 20, 29, 100)]
    append_rows(lake, SILVER_CONTINUITY, rows)
    assert tick(instance, lake) == ([], "no gap has been open for 120 s, none is due again")
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 30, 39, age=130)])
    requests, _ = tick(instance, lake)
    assert [(request.run_key, dict(request.tags)) for request in requests] == [("repair:first", {NAME_TAG: "repair"})]


#: (age of the first answer without the ids, age of the last, tries) → whether the venue is asked again. Seconds.
DUE_AGAIN: dict[str, tuple[float, float | None, int | None, bool]] = {
    "a moment ago": (290, 290, 1, False),
    "minutes ago": (310, 310, 1, True),
    "asked again after minutes": (3500, 3190, 2, False),
    "an hour ago": (3610, 3300, 2, True),
    "asked again after an hour": (90_000, 86_000, 3, False),
    "asked by hand a moment ago": (310, 5, 2, False),
    "asked by hand too early": (310, 200, 2, True),
    "everything was down for a day": (86_400, 86_400, 1, True),
    "of a ledger that counted none, young": (290, None, None, False),
    "of a ledger that counted none, old": (86_400, None, None, True),
}


@pytest.mark.parametrize("situation", DUE_AGAIN)
def test_what_a_venue_lacked_is_due_after_minutes_and_after_an_hour(
    instance: DagsterInstance, lake: Settings, situation: str
) -> None:
    first, last, tries, is_due = DUE_AGAIN[situation]
    row = ledger_row("unavailable", 20, 29, first) | {"tries": tries, "last_try": None}
    if last is not None:
        row["last_try"] = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=last)
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("present", 1, 19), row])
    requests, reason = tick(instance, lake)
    assert [request.run_key for request in requests] == (["repair:first"] if is_due else [])
    assert reason == ("" if is_due else "no gap has been open for 120 s, none is due again")
    assert [gap.tries for gap in gaps_to_repair(lake)] == ([tries or 1] if is_due else [])
    assert [gap.tries for gap in gaps_to_repair(lake, all_unavailable=True)] == [tries or 1]
    assert open_gaps(lake) == []


def test_one_go_asks_for_so_many_ranges_the_longest_untried_first(lake: Settings) -> None:
    rows = [ledger_row("unavailable", 10 * n, 10 * n, age=400 + n) for n in range(MOST_AGAIN + 7)]
    append_rows(lake, SILVER_CONTINUITY, [*rows, ledger_row("open", 9, 9)])
    gaps = gaps_to_repair(lake, 120)
    assert len(gaps) == 1 + MOST_AGAIN
    assert [gap.first_id for gap in gaps[:3]] == [9, 10 * (MOST_AGAIN + 6), 10 * (MOST_AGAIN + 5)]


def test_one_run_at_a_time(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    run = instance.create_run_for_job(repair, tags=dict(repair.tags))  # a launch by hand
    assert tick(instance, lake) == ([], f"repair: run {run.run_id[:8]} is waiting")


def test_the_same_gaps_are_not_hammered_on_but_others_are_repaired_at_once(
    instance: DagsterInstance, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    run = succeeded(instance, lake)
    requests, reason = tick(instance, lake)
    assert requests == []
    assert "the same gaps were left open 1 times in a row; next run in " in reason
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("sensors.repair.time.time", lambda: now + 31)
        assert [request.run_key for request in tick(instance, lake)[0]] == [f"repair:after:{run.run_id}"]
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 30, 39)])
    assert [request.run_key for request in tick(instance, lake)[0]] == [f"repair:after:{run.run_id}"]


def test_a_canceled_run_is_the_last(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    instance.report_run_canceled(started(instance))
    requests, reason = tick(instance, lake)
    assert requests == []
    assert reason.endswith("to resume, launch the job repair by hand")


def test_a_run_that_ended_with_its_control_room_comes_back(
    instance: DagsterInstance, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    run = started(instance)
    instance.add_run_tags(run.run_id, {PLANNED_STOP_TAG: str(time.time() + 0.1)})
    instance.report_run_canceled(run)
    now = time.time()
    monkeypatch.setattr("sensors.repair.time.time", lambda: now + 11)
    assert [request.run_key for request in tick(instance, lake)[0]] == [f"repair:after:{run.run_id}"]


def test_a_terminal_error_is_not_hammered_on(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    run = started(instance, **{TERMINAL_TAG: "unknown venue 'mtgox'"})
    instance.report_run_failed(run)
    requests, reason = tick(instance, lake)
    assert requests == []
    assert "unknown venue 'mtgox'; next run in " in reason


def test_a_dead_run_is_failed(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    run = started(instance)
    signs = {HEARTBEAT_TAG: str(time.time() + 1), HOST_TAG: socket.gethostname(), PID_TAG: str(2**22 + 1)}
    instance.add_run_tags(run.run_id, signs)
    assert tick(instance, lake) == ([], "repair: its worker process is gone")
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is DagsterRunStatus.FAILURE


def test_a_ledger_that_cannot_be_read_is_a_reason_and_no_failed_tick(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, SILVER_CONTINUITY, [ledger_row("open", 10, 19)])
    for file in Path(table_uri(lake, SILVER_CONTINUITY)).glob("*.parquet"):
        file.unlink()
    requests, reason = tick(instance, lake)
    assert requests == []
    assert reason.startswith("the ledger could not be read: ")
    assert "\n" not in reason
