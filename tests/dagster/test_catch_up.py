"""The job `catch_up` on real Kafka and Spark: every table and check in one run, and what a broken table stops."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from dagster import AssetKey, DagsterEventType, DagsterInstance, ExecuteInProcessResult
from deltalake import write_deltalake

from jobs import catch_up
from lakehouse.lake.table_io import open_table, sql, table_uri
from lakehouse.quality.checks import checks_of_lake
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.support.messages import send, trades

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


def run_catch_up(settings: Settings, instance: DagsterInstance | None = None) -> ExecuteInProcessResult:
    with contextlib.ExitStack() as stack:
        instance = instance or stack.enter_context(DagsterInstance.ephemeral())
        return catch_up.execute_in_process(resources={"settings": settings}, instance=instance, raise_on_error=False)


def rows_reported(result: ExecuteInProcessResult) -> dict[AssetKey, object]:
    events = result.get_asset_materialization_events()
    return {
        event.asset_key: event.materialization.metadata["dagster/row_count"].value
        for event in events
        if event.asset_key
    }


def reported(result: ExecuteInProcessResult, table: str, name: str) -> object:
    (event,) = [
        event for event in result.get_asset_materialization_events() if event.asset_key == AssetKey(table.split("/"))
    ]
    return event.materialization.metadata[name].value


def test_every_table_and_every_check_in_one_run(spark: SparkSession, kafka_settings: Settings) -> None:
    send(kafka_settings, kafka_settings.topic_trades, [*trades(120, seed=21), b"junk"])

    result = run_catch_up(kafka_settings)

    assert result.success
    rows = rows_reported(result)
    assert rows[AssetKey(["bronze", "messages"])] == 121
    assert rows[AssetKey(["silver", "trades"])] == 120
    assert rows[AssetKey(["silver", "quarantine"])] == 1
    assert reported(result, "silver/quarantine", "open_by_rule") == {"not_json": 1}
    assert rows[AssetKey(["silver", "continuity"])] == 4  # one contiguous range a symbol
    assert reported(result, "silver/continuity", "open_holes") == 0
    bars = sql(kafka_settings, "SELECT count(*) AS n FROM b", b=GOLD_BARS_1M).to_pylist()[0]["n"]
    assert rows[AssetKey(["gold", "bars_1m"])] == bars > 0
    evaluations = result.get_asset_check_evaluations()
    assert {(evaluation.asset_key, evaluation.check_name) for evaluation in evaluations} == {
        (AssetKey(check.table_path.split("/")), check.name) for check in checks_of_lake(kafka_settings)
    }
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert failed == {"quarantine_settled"}  # the junk waits for a parser that can read it


def test_a_broken_table_stops_the_layer_above(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, trades(50, seed=22))
    assert run_catch_up(settings).success
    gold = open_table(settings, GOLD_BARS_1M).version()
    row = sql(settings, "SELECT * FROM t LIMIT 1", t=SILVER_TRADES)
    write_deltalake(table_uri(settings, SILVER_TRADES), row.cast(row.schema), mode="append")  # somebody else's double

    with DagsterInstance.ephemeral() as instance:
        result = run_catch_up(settings, instance)
        # The log of an op that failed is not in its result; it is in the instance, where the UI reads it.
        logged = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    verdicts = [event for event in logged if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION]
    evaluations = [event.asset_check_evaluation_data for event in verdicts]

    assert not result.success
    assert "key_unique" in {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert open_table(settings, GOLD_BARS_1M).version() == gold
