"""Verdicts in Dagster on a real instance (SQLite): how often they are reported, and by which run.

Without Spark: the lake is written by hand, and a catch-up by hand changes nothing.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetSelection,
    DagsterInstance,
    Definitions,
)
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from deltalake import write_deltalake

from assets.checks import check_evaluation, check_key, checks_of
from assets.days import utc_today
from assets.lineage import table_key
from assets.specs import FRESHNESS
from assets.verdicts import latest_materializations, shown_verdict
from jobs import catch_up
from lakehouse.lake.table_io import append_rows, sql, table_uri
from lakehouse.quality.checks import CheckResult
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES
from tests.dagster.test_gold import END_TAG, START_TAG, StandIn, bar_of
from tests.support.rows import trade_row
from tests.support.verdict_runs import (
    BARS,
    NOW_US,
    SETTLED,
    UNIQUE,
    by_hand,
    evaluations,
    history,
    materialize_alone,
    materialized,
    one_trade,
    shown,
    stream,
)

DAY = dt.timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    StandIn(monkeypatch)
    return one_trade(tmp_path / "home")


# ------------------------------------------------------------------------------------------------ how often


def test_a_report_comes_when_it_is_due_and_every_look_is_recorded(instance: DagsterInstance, lake: Settings) -> None:
    ids = itertools.count(2)

    def steps() -> Iterator[None]:
        for _ in range(5):
            append_rows(lake, SILVER_TRADES, [trade_row(next(ids), NOW_US)])
            yield

    stream(instance, lake, steps())
    assert (materialized(instance, UNIQUE.asset_key), history(instance, UNIQUE)) == (1, ["SUCCEEDED"])
    assert evaluations(lake, UNIQUE) == [True] * 5
    stream(instance, lake.model_copy(update={"report_seconds": 0.001}), steps())
    assert (materialized(instance, UNIQUE.asset_key), len(history(instance, UNIQUE))) == (6, 6)
    assert evaluations(lake, UNIQUE) == [True] * 10


def test_a_changed_verdict_is_reported_with_all_of_its_tables(instance: DagsterInstance, lake: Settings) -> None:
    def steps() -> Iterator[None]:
        yield
        row = sql(lake, "SELECT * FROM t LIMIT 1", t=SILVER_TRADES)
        write_deltalake(table_uri(lake, SILVER_TRADES), row.cast(row.schema), mode="append")  # somebody else's double
        yield

    stream(instance, lake, steps())
    assert (shown(instance, UNIQUE), history(instance, UNIQUE)) == ("FAILED", ["SUCCEEDED", "FAILED"])
    assert history(instance, SETTLED) == ["SUCCEEDED", "SUCCEEDED"]
    assert materialized(instance, UNIQUE.asset_key) == materialized(instance, SETTLED.asset_key) == 2
    assert materialized(instance, AssetKey(["ops", "checks"])) == 2


def test_nothing_is_told_where_nothing_happens(instance: DagsterInstance, lake: Settings) -> None:
    stream(instance, lake.model_copy(update={"report_seconds": 0.001}), range(4))
    assert (materialized(instance, UNIQUE.asset_key), history(instance, UNIQUE)) == (1, ["SUCCEEDED"])
    assert evaluations(lake, UNIQUE) == [True] * 4  # age goes on though nothing comes


def test_the_windows_of_freshness_are_several_reports() -> None:
    settings = load_settings()
    assert (settings.report_seconds, settings.check_seconds) == (300.0, 60.0)
    report = dt.timedelta(seconds=settings.report_seconds)
    assert isinstance(FRESHNESS, TimeWindowFreshnessPolicy)
    assert FRESHNESS.warn_window is not None
    assert FRESHNESS.warn_window.to_timedelta() >= 3 * report
    assert FRESHNESS.fail_window.to_timedelta() >= 6 * report


# ------------------------------------------------------------------------------------------------ bounded runs


@pytest.mark.parametrize(
    "tags",
    [
        {"dagster/partition": str(utc_today() - DAY)},
        {"dagster/partition": str(utc_today())},
        {START_TAG: str(utc_today() - 2 * DAY), END_TAG: str(utc_today())},
    ],
    ids=["a day", "today", "a range"],
)
def test_a_rebuild_leaves_no_skipped_check(instance: DagsterInstance, lake: Settings, tags: dict[str, str]) -> None:
    result = by_hand(instance, lake, AssetSelection.groups("gold"), tags)
    assert result.success
    days = 3 if START_TAG in tags else 1
    for check in checks_of(lake, ("gold",)):
        rows = history(instance, check_key(check))
        assert Status.PLANNED.value not in rows
        assert len(rows) == days
    assert shown(instance, BARS) == "SUCCEEDED"
    evaluated = {evaluation.partition for evaluation in result.get_asset_check_evaluations()}
    assert evaluated == {str(utc_today() - back * DAY) for back in range(3)} if days == 3 else set(tags.values())
    assert len(evaluations(lake, BARS)) == 1  # looked at once


def test_a_rebuild_whose_blocking_check_fails_fails(instance: DagsterInstance, lake: Settings) -> None:
    append_rows(lake, GOLD_BARS_1M, [bar_of(utc_today()) | {"trades": 0}])
    result = by_hand(instance, lake, AssetSelection.groups("gold"), {"dagster/partition": str(utc_today())})
    assert not result.success
    assert (shown(instance, BARS), history(instance, BARS)) == ("FAILED", ["FAILED"])


def test_a_catch_up_s_verdicts_are_about_its_own_materializations(instance: DagsterInstance, lake: Settings) -> None:
    definitions = Definitions(jobs=[catch_up], resources={"settings": lake})
    result = definitions.resolve_job_def("catch_up").execute_in_process(instance=instance)
    latest = latest_materializations(instance, [UNIQUE.asset_key, BARS.asset_key])
    about = {
        AssetCheckKey(one.asset_key, one.check_name): one.target_materialization_data
        for one in result.get_asset_check_evaluations()
    }
    assert (about[UNIQUE], about[BARS]) == (latest[UNIQUE.asset_key], latest[BARS.asset_key])
    assert shown(instance, UNIQUE) == "SUCCEEDED"
    assert history(instance, UNIQUE) == ["SUCCEEDED"]


# ------------------------------------------------------------------------------------------------ Dagster's inside


def test_what_the_ui_shows_is_known(instance: DagsterInstance, lake: Settings) -> None:
    """The class and the method that are not in Dagster's public API do what `assets.verdicts` says of them."""
    check = next(check for check in checks_of(lake, ("silver",)) if check.name == UNIQUE.name)
    key = table_key(check.table_path)

    def say(passed: bool) -> None:
        about = latest_materializations(instance, [key]).get(key)
        instance.report_runless_asset_event(check_evaluation(check, CheckResult(passed, "said"), about))

    def known() -> bool | None:
        return shown_verdict(instance, UNIQUE, latest_materializations(instance, [key]).get(key))

    assert latest_materializations(instance, []) == latest_materializations(instance, [key]) == {}
    assert (known(), shown(instance, UNIQUE)) == (None, "Not evaluated")
    say(True)
    assert (known(), shown(instance, UNIQUE)) == (True, "SUCCEEDED")
    materialize_alone(instance, key)
    assert (known(), shown(instance, UNIQUE)) == (None, "Not evaluated")
    say(False)
    assert (known(), shown(instance, UNIQUE)) == (False, "FAILED")
    record = instance.fetch_materializations(key, limit=1).records[0]
    assert latest_materializations(instance, [key])[key].storage_id == record.storage_id
    say(True)
    assert (known(), shown(instance, UNIQUE)) == (True, "SUCCEEDED")
    assert history(instance, UNIQUE) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
