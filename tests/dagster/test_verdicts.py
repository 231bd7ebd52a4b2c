"""Verdicts in Dagster on a real instance (SQLite): what the UI shows while a stream and other runs take turns.

Without Spark: the lake is written by hand, and a catch-up by hand changes nothing.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    AssetMaterialization,
    AssetSelection,
    DagsterInstance,
    Definitions,
    OpExecutionContext,
    define_asset_job,
    job,
    op,
)

from assets import all_assets, all_checks
from assets.checks import check_evaluation, check_key, checks_of
from lakehouse.lake.table_io import append_rows
from lakehouse.quality.checks import CheckResult
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from tests.dagster.test_gold import StandIn
from tests.replay.test_replay import quarantined, settle
from tests.support.rows import trade_row
from tests.support.verdict_runs import (
    NOW_US,
    SETTLED,
    UNIQUE,
    all_shown,
    evaluations,
    execute,
    history,
    materialize_alone,
    materialize_silver,
    materialized,
    one_trade,
    shown,
    stream,
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    StandIn(monkeypatch)
    return one_trade(tmp_path / "home")


def test_a_stream_s_verdicts_show_after_a_manual_materialization(instance: DagsterInstance, lake: Settings) -> None:
    seen: list[set[str]] = []

    def steps() -> Iterator[None]:
        yield  # reports
        seen.append(all_shown(instance, lake))
        materialize_silver(instance, lake)
        seen.append(all_shown(instance, lake))
        yield
        seen.append(all_shown(instance, lake))
        append_rows(lake, SILVER_TRADES, [trade_row(2, NOW_US)])
        yield
        seen.append(all_shown(instance, lake))

    stream(instance, lake, steps())
    assert seen == [{"SUCCEEDED"}] * 4
    assert evaluations(lake, UNIQUE) == [True] * 4  # three looks and the one by hand


def test_every_check_shows_where_only_a_table_was_materialized(instance: DagsterInstance, lake: Settings) -> None:
    """The state that a person's own job would leave."""

    def steps() -> Iterator[None]:
        yield
        materialize_alone(instance, UNIQUE.asset_key)
        assert shown(instance, UNIQUE) == "Not evaluated"
        yield
        assert shown(instance, UNIQUE) == "SUCCEEDED"
        assert materialized(instance, UNIQUE.asset_key) == 2  # the table is as it was: nothing to tell of it
        append_rows(lake, SILVER_TRADES, [trade_row(2, NOW_US)])
        materialize_alone(instance, UNIQUE.asset_key)
        yield
        assert all_shown(instance, lake) == {"SUCCEEDED"}
        assert materialized(instance, UNIQUE.asset_key) == 4

    stream(instance, lake, steps())


def test_a_fault_of_a_minute_stays_in_the_history(instance: DagsterInstance, lake: Settings) -> None:
    seen: list[str] = []

    def steps() -> Iterator[None]:
        yield
        seen.append(shown(instance, SETTLED))
        append_rows(lake, SILVER_QUARANTINE, [quarantined(0)])
        yield
        seen.append(shown(instance, SETTLED))
        settle(lake, 0)
        yield
        seen.append(shown(instance, SETTLED))

    stream(instance, lake, steps())
    assert seen == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert history(instance, SETTLED) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert evaluations(lake, SETTLED) == [True, False, True]


def test_a_fault_after_an_executed_check_shows_and_passes(instance: DagsterInstance, lake: Settings) -> None:
    seen: list[str] = []

    def steps() -> Iterator[None]:
        yield
        execute(instance, lake, SETTLED)
        append_rows(lake, SILVER_QUARANTINE, [quarantined(0)])
        yield
        seen.append(shown(instance, SETTLED))
        execute(instance, lake, SETTLED)
        settle(lake, 0)
        yield
        seen.append(shown(instance, SETTLED))

    stream(instance, lake, steps())
    assert seen == ["FAILED", "SUCCEEDED"]
    assert history(instance, SETTLED) == ["SUCCEEDED", "SUCCEEDED", "FAILED", "FAILED", "SUCCEEDED"]


def test_a_check_that_a_run_only_planned_shows_again(instance: DagsterInstance, lake: Settings) -> None:
    """A run that is canceled before its checks leaves them "skipped"."""

    def steps() -> Iterator[None]:
        yield
        definitions = Definitions(
            assets=all_assets(lake),
            asset_checks=all_checks(lake),
            jobs=[define_asset_job("by_hand", selection=AssetSelection.groups("silver"))],
            resources={"settings": lake},
        )
        instance.report_run_canceled(instance.create_run_for_job(definitions.resolve_job_def("by_hand")))
        assert shown(instance, UNIQUE) != "SUCCEEDED"
        yield
        assert all_shown(instance, lake) == {"SUCCEEDED"}

    stream(instance, lake, steps())


def test_the_verdicts_of_a_stream_of_the_commit_before_are_followed_by_new_ones(
    instance: DagsterInstance, lake: Settings
) -> None:
    @op
    def old_stream(context: OpExecutionContext) -> None:
        for key in {check_key(check).asset_key for check in checks_of(lake, ("silver",))}:
            context.log_event(AssetMaterialization(key))
        for check in checks_of(lake, ("silver",)):
            evaluation = check_evaluation(check, CheckResult(False, "of yesterday"), None)
            context.log_event(evaluation)  # type: ignore[arg-type]

    @job
    def old() -> None:
        old_stream()

    assert old.execute_in_process(instance=instance).success
    assert all_shown(instance, lake) == {"FAILED"}
    stream(instance, lake, [1])
    assert all_shown(instance, lake) == {"SUCCEEDED"}
    assert history(instance, UNIQUE) == ["FAILED", "SUCCEEDED"]
