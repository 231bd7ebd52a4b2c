"""The whole of Dagster for real: code server, daemon, Kafka, the simulated exchange, Spark; runs killed and canceled.

One story in one test, because its first minute is the start of everything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from dagster import AssetKey, AssetRecordsFilter, DagsterRunStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from playwright.sync_api import expect

from assets.checks import check_key
from jobs.managed_runs import PID_TAG, REPAIR
from lakehouse.continuity.gaps import marks, open_gaps
from lakehouse.lake.table_io import sql
from lakehouse.quality.checks import checks_of_lake
from lakehouse.settings import Settings
from lakehouse.status.snapshot import collect
from lakehouse.status.supervision import Work, read_works
from lakehouse.tables import SILVER_TRADES
from tests.support import ui
from tests.support.dagster_stack import (
    PATIENCE,
    ROOT,
    DagsterStack,
    materialize_by_hand,
    simulated_stack,
    wait_for,
)
from tests.support.messages import send


@pytest.fixture
def stack(kafka_settings: Settings) -> Iterator[DagsterStack]:
    with simulated_stack(kafka_settings, repair_after_seconds=5.0, report_seconds=10.0) as running:
        yield running


def pid_of(stack: DagsterStack, run_id: str) -> int:
    run = stack.instance.get_run_by_id(run_id)
    assert run is not None
    return int(wait_for("the run's pid", lambda: run.tags.get(PID_TAG), 1))


def materialized_rows(stack: DagsterStack, layer: str, name: str) -> int:
    records = stack.instance.fetch_materializations(AssetRecordsFilter(AssetKey([layer, name])), limit=1).records
    if not records or records[0].asset_materialization is None:
        return 0
    value = records[0].asset_materialization.metadata["dagster/row_count"].value
    assert isinstance(value, int)
    return value


def verdicts(stack: DagsterStack) -> list[AssetCheckExecutionRecordStatus]:
    storage = stack.instance.event_log_storage
    found = storage.get_latest_asset_check_execution_by_key(
        [check_key(check) for check in checks_of_lake(stack.settings)]
    )
    return [record.status for record in found.values()]


def look_and_materialize(stack: DagsterStack) -> None:
    """In a real browser."""
    with ui.page(f"http://127.0.0.1:{stack.settings.dagster_port}") as shown:
        ui.open_lineage(shown)
        for name in (stack.settings.topic_trades, "messages", "trades", "bars_1m", "bars_5m"):
            expect(shown.locator("svg").get_by_text(name, exact=True).first).to_be_visible()
        assert ui.check_verdict(shown, "silver/trades", "key_unique") == "Passed"
        run_id = materialize_by_hand(stack, shown, "silver/trades")
    run = stack.instance.get_run_by_id(run_id)
    assert run is not None
    assert AssetKey(["silver", "trades"]) in (run.asset_selection or set())


def repair_a_gap(stack: DagsterStack) -> None:
    """The exchange trades on while nobody listens; somebody says so."""
    settings, key = stack.settings, ("binance", "BTC/USDT")

    def drained() -> bool:
        snapshot = collect(settings)
        return snapshot.table("bronze/messages").lag == 0 == snapshot.table("silver/trades").lag

    # Wait for the last trades of ingest: they would fill the gap before anybody can see it.
    wait_for("drained streams", drained, PATIENCE, every=2)
    first = marks(settings)[key].trade_id + 1
    gap = {"event": "gap_opened", "venue": key[0], "symbol": key[1], "first_id": first, "last_id": first + 9}
    send(settings, settings.topic_feed_events, [gap | {"ts_event": time.time_ns() // 1000, "connection_id": "test"}])
    wait_for("a gap in the ledger", lambda: bool(open_gaps(settings)), PATIENCE)
    wait_for("a ledger without gaps", lambda: not open_gaps(settings), PATIENCE)
    ids = f"venue = '{key[0]}' AND symbol = '{key[1]}' AND trade_id BETWEEN {first} AND {first + 9}"
    found = sql(settings, f"SELECT trade_id, source FROM t WHERE {ids}", t=SILVER_TRADES).to_pylist()
    assert sorted(row["trade_id"] for row in found) == list(range(first, first + 10))
    assert "repair" in {row["source"] for row in found}
    record = stack.newest(REPAIR)
    assert record is not None
    stack.wait_status(record.dagster_run.run_id, DagsterRunStatus.SUCCESS, PATIENCE)


def take_over(stack: DagsterStack, stream: str) -> str:
    """Launch a second stream from the project's workspace and cancel the first; return the run id of the second.

    It starts through the daemon's code server of the same location name.
    """
    launched = stack.command("dagster", "job", "launch", "-j", "stream", "-w", str(ROOT / "workspace.yaml"))
    assert launched.returncode == 0, launched.stderr
    record = stack.newest("stream")
    assert record is not None
    by_hand = record.dagster_run.run_id
    assert by_hand != stream
    assert stack.status(by_hand) is DagsterRunStatus.QUEUED
    stack.instance.run_coordinator.cancel_run(stream)
    stack.wait_status(stream, DagsterRunStatus.CANCELED, PATIENCE)
    assert stack.started("stream", PATIENCE) == by_hand
    return by_hand


@pytest.mark.slow
@pytest.mark.browser
def test_there_is_a_browser_for_the_story_below() -> None:
    if ui.chromium() is None:
        pytest.skip("no Chromium here: the story below goes without its browser step")


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.lakehouse
@pytest.mark.spark
@pytest.mark.timeout(1500)
def test_runs_are_launched_reported_relaunched_and_left_alone(stack: DagsterStack) -> None:
    # 1. The supervisors launch both, unasked, and trades come through to the bars, with current verdicts.
    ingest, stream = stack.started("ingest", PATIENCE), stack.started("stream", PATIENCE)
    wait_for("bars in Dagster", lambda: materialized_rows(stack, "gold", "bars_5m"), PATIENCE)
    wait_for("verdicts", lambda: len(verdicts(stack)) == len(checks_of_lake(stack.settings)), PATIENCE)
    # On a machine that is busy enough a start takes minutes, for which `fresh` fails.
    wait_for("passed", lambda: set(verdicts(stack)) == {AssetCheckExecutionRecordStatus.SUCCEEDED}, PATIENCE)

    assert read_works(stack.settings) == (Work("ingest", "running"), Work("stream", "running"))

    # 2. A person looks: lineage with materialized assets, a passed check, and Materialize beside the live stream.
    if ui.chromium():
        look_and_materialize(stack)

    # 3. kill -9 of a worker: failed, and replaced by itself.
    os.kill(pid_of(stack, ingest), signal.SIGKILL)
    stack.wait_status(ingest, DagsterRunStatus.FAILURE, PATIENCE)
    second = stack.started("ingest", PATIENCE, other_than=ingest)

    # 4. A person's second stream waits for the first, and takes over when that one is canceled.
    by_hand = take_over(stack, stream)

    # 5. Canceled by a person: stays ended.
    stack.instance.run_coordinator.cancel_run(second)
    stack.wait_status(second, DagsterRunStatus.CANCELED, PATIENCE)

    def said_so() -> bool:
        states = stack.instance.all_instigator_state()
        ticks = [
            tick
            for state in states
            for tick in stack.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=3)
        ]
        return any("was ended by hand (canceled) and stays ended" in (tick.skip_reason or "") for tick in ticks)

    wait_for("a tick that says so", said_so, PATIENCE)
    newest = stack.newest("ingest")
    assert newest is not None
    assert newest.dagster_run.run_id == second

    works = read_works(stack.settings)
    assert [(work.name, work.by_hand) for work in works] == [("ingest", True), ("stream", False)]
    assert f"run {second[:8]}; launch the job ingest to resume" in works[0].state

    # 6. The sensor has the gaps fetched that ingest leaves.
    repair_a_gap(stack)

    # 7. The end of a lakehouse: everything ends, and would be started by the next one.
    stopped = stack.command("jobs.shutdown", "--seconds", "30")
    assert (stopped.returncode, stopped.stdout) == (0, "1 live run(s) ended\n"), stopped.stderr
    assert stack.status(by_hand) is DagsterRunStatus.CANCELED
    again = stack.started("stream", PATIENCE, other_than=by_hand)
    assert again != by_hand
