"""Gold by day in Dagster: partitions, rebuilds of a day or a range, reports of a stream, and the columns' lineage.

Without Spark: the streams and the rebuild are stand-ins that note how they were called.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    OpExecutionContext,
    TableColumnLineage,
    job,
    op,
)

from assets import all_assets, all_checks
from assets.days import MOST_DAYS, gold_days, utc_today, written_days
from assets.lineage import COLUMN_LINEAGE, UPSTREAM, column_lineage, origin
from jobs import catch_up, rebuild_gold
from jobs.reporting import Reporter
from lakehouse.lake.table_io import active_tables, append_rows, open_table
from lakehouse.rebuild.gold import GoldRebuild
from lakehouse.settings import Settings
from lakehouse.streams.gold_rows import RowChanges
from lakehouse.streams.progress import LayerCounter, TableProgress, layer_progress
from lakehouse.tables import BY_PATH, GOLD_BARS_1M, GOLD_BARS_5M, GOLD_MOVES, TABLES, Table
from tests.conftest import SettingsFactory
from tests.support.rows import bar_row, empty_lake

DAY = dt.timedelta(days=1)
START_TAG, END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Gold has one-minute bars of yesterday and today."""
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, GOLD_BARS_1M, [bar_of(utc_today() - DAY), bar_of(utc_today()), bar_of(utc_today(), minute=1)])
    return settings


def bar_of(day: dt.date, minute: int = 0) -> dict[str, Any]:
    start = dt.datetime.combine(day, dt.time(0, minute), dt.UTC)
    return bar_row(int(start.timestamp()) * 1_000_000)


class StandIn:
    """Notes the calls, in their order; changes nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        monkeypatch.setattr("lakehouse.rebuild.gold.rebuild_days", self.rebuild_days)
        monkeypatch.setattr("lakehouse.streams.materialize.materialize", self.materialize)

    def rebuild_days(
        self, _: Settings, first_day: dt.date, last_day: dt.date, run_id: str, **_more: object
    ) -> GoldRebuild:
        self.calls.append(("rebuild", first_day, last_day, run_id))
        changes = {GOLD_BARS_1M.path: RowChanges(inserted=1, updated=2, deleted=3, rows=4)}
        return GoldRebuild(first_day, last_day, slices=1, silver_version=7, rows=changes)

    def materialize(self, settings: Settings, layers: tuple[str, ...], **_more: object) -> dict[str, TableProgress]:
        self.calls.append(("catch up", *layers))
        return {path: one for layer in layers for path, one in layer_progress(settings, layer, LayerCounter()).items()}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(monkeypatch)


def run(
    instance: DagsterInstance, settings: Settings, name: str = "rebuild_gold", **tags: str
) -> ExecuteInProcessResult:
    definitions = Definitions(
        assets=all_assets(settings),
        asset_checks=all_checks(settings),
        jobs=[catch_up, rebuild_gold],
        resources={"settings": settings},
    )
    return definitions.resolve_job_def(name).execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def events(result: ExecuteInProcessResult, table: Table) -> dict[str | None, dict[str, object]]:
    """Partition → the metadata of its event, of one table."""
    return {
        event.partition: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key == AssetKey(table.path.split("/"))
    }


# ------------------------------------------------------------------------------------------------ days


def test_the_days_go_from_the_first_to_today(settings_factory: SettingsFactory) -> None:
    days = gold_days(settings_factory(first_day=utc_today() - 2 * DAY)).get_partition_keys()
    assert days == [str(utc_today() - 2 * DAY), str(utc_today() - DAY), str(utc_today())]


def test_days_to_tell_of_are_those_written_and_today(lake: Settings) -> None:
    today = utc_today()
    assert written_days(lake, GOLD_BARS_1M, 0.0, today) == {today - DAY: 1, today: 2}
    later = time.time() + 5
    assert written_days(lake, GOLD_BARS_1M, later, today) == {today: 2}
    assert written_days(lake, GOLD_BARS_1M, later, today + DAY) == {today + DAY: 0}
    assert written_days(lake, GOLD_BARS_5M, 0.0, today) == {today: 0}


def test_days_that_dagster_does_not_know_are_not_told(lake: Settings) -> None:
    first = lake.first_day
    append_rows(lake, GOLD_BARS_1M, [bar_of(first - DAY), *(bar_of(first + number * DAY) for number in range(40))])
    told = written_days(lake, GOLD_BARS_1M, 0.0, first + 39 * DAY)
    assert list(told) == [first + number * DAY for number in range(40 - MOST_DAYS, 40)]
    assert list(written_days(lake, GOLD_BARS_1M, 0.0, first)) == [first]
    assert written_days(lake, GOLD_BARS_1M, 0.0, first - DAY) == {}


# ------------------------------------------------------------------------------------------------ rebuilds


def test_a_range_is_one_rebuild_and_an_event_a_day(
    instance: DagsterInstance, lake: Settings, stand_in: StandIn
) -> None:
    first, last = utc_today() - 3 * DAY, utc_today() - DAY
    result = run(instance, lake, **{START_TAG: str(first), END_TAG: str(last)})
    assert result.success
    assert stand_in.calls == [("rebuild", first, last, result.run_id)]
    told = events(result, GOLD_BARS_1M)
    assert list(told) == [str(first), str(first + DAY), str(last)]
    figures = {"rows": 4, "inserted": 1, "updated": 2, "deleted": 3, "silver_version": 7, "days": f"{first} to {last}"}
    assert told[str(first)] == figures | {"dagster/partition_row_count": 0}
    assert told[str(last)] == figures | {"dagster/partition_row_count": 1}
    untouched = events(result, GOLD_MOVES)[str(last)]
    assert (untouched["rows"], untouched["silver_version"]) == (0, 7)


def test_a_past_day_is_rebuilt_and_nothing_else(instance: DagsterInstance, lake: Settings, stand_in: StandIn) -> None:
    day = utc_today() - DAY
    result = run(instance, lake, **{"dagster/partition": str(day)})
    assert result.success
    assert stand_in.calls == [("rebuild", day, day, result.run_id)]
    assert list(events(result, GOLD_BARS_5M)) == [str(day)]


def test_today_catches_up_first(instance: DagsterInstance, lake: Settings, stand_in: StandIn) -> None:
    day = utc_today()
    result = run(instance, lake, **{"dagster/partition": str(day)})
    assert result.success
    assert stand_in.calls == [("catch up", "gold"), ("rebuild", day, day, result.run_id)]


def test_without_a_day_gold_catches_up(instance: DagsterInstance, lake: Settings, stand_in: StandIn) -> None:
    result = run(instance, lake)
    assert result.success
    assert stand_in.calls == [("catch up", "gold")]
    assert set(events(result, GOLD_BARS_1M)) == {None, str(utc_today())}


def test_catch_up_tells_of_gold_by_day(instance: DagsterInstance, lake: Settings, stand_in: StandIn) -> None:
    result = run(instance, lake, "catch_up")
    assert result.success
    assert stand_in.calls == [("catch up", layer) for layer in ("bronze", "silver", "gold")]
    assert set(events(result, GOLD_BARS_1M)) == {str(utc_today())}
    assert set(events(result, BY_PATH["silver/trades"])) == {None}
    evaluated = {(one.asset_key, one.check_name) for one in result.get_asset_check_evaluations()}
    assert (AssetKey(["gold", "bars_1m"]), "bars_consistent") in evaluated


# ------------------------------------------------------------------------------------------------ a stream's reports


def reported(instance: DagsterInstance, settings: Settings, between: Iterator[None]) -> ExecuteInProcessResult:
    """A run that reports Gold once for each step of `between`."""

    @op
    def host(context: OpExecutionContext) -> None:
        reporter = Reporter(context, settings, ("gold",))
        for _ in between:
            reporter.look(lambda: layer_progress(settings, "gold", LayerCounter()), last=True)

    @job
    def hosting() -> None:
        host()

    return hosting.execute_in_process(instance=instance)


def test_a_stream_reports_the_days_that_it_wrote(instance: DagsterInstance, lake: Settings) -> None:
    def steps() -> Iterator[None]:
        yield
        append_rows(lake, GOLD_BARS_1M, [bar_of(utc_today() - 5 * DAY)])  # a late trade
        yield

    result = reported(instance, lake, steps())
    storage = instance.event_log_storage
    key = AssetKey(["gold", "bars_1m"])
    told = storage.get_materialized_partitions(key)
    assert result.success
    assert {str(utc_today()), str(utc_today() - 5 * DAY)} <= told
    assert storage.get_materialized_partitions(AssetKey(["gold", "moves"])) == {str(utc_today())}
    assert open_table(lake, GOLD_BARS_1M).version() == 2


# ------------------------------------------------------------------------------------------------ columns

GOLD = [table for table in TABLES if table.layer == "gold"]


@pytest.mark.parametrize("table", GOLD, ids=lambda table: table.path)
def test_every_column_of_gold_has_its_lineage(table: Table) -> None:
    assert set(COLUMN_LINEAGE[table.path]) == set(table.column_names)
    for name, upstream in COLUMN_LINEAGE[table.path].items():
        assert bool(upstream) == (name not in ("revision", "updated_at")), name
        for path, column in upstream:
            assert path in UPSTREAM[table.path]
            assert column in BY_PATH[path].column_names


def test_column_lineage_is_declared_for_gold_only() -> None:
    assert set(COLUMN_LINEAGE) == {table.path for table in GOLD}
    assert column_lineage(BY_PATH["silver/trades"]) is None


def test_the_ui_shows_where_a_column_comes_from(settings_factory: SettingsFactory) -> None:
    assert origin(GOLD_BARS_1M, "vwap") == "From silver.trades: price, size."
    assert origin(GOLD_BARS_1M, "revision") == ""
    settings = settings_factory()
    definitions = Definitions(assets=all_assets(settings), resources={"settings": settings})
    node = definitions.get_repository_def().asset_graph.get(AssetKey(["gold", "bars_1m"]))
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, TableColumnLineage)
    assert [(one.asset_key.path, one.column_name) for one in lineage.deps_by_column["high"]] == [
        (["silver", "trades"], "price")
    ]
    assert {table.path for table in active_tables(settings) if table.layer == "gold"} < set(COLUMN_LINEAGE)
