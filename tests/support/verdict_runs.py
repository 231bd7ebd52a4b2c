"""Runs that report verdicts to a real Dagster instance, and what the UI would show of them."""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import asyncio
import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    AssetSelection,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    OpExecutionContext,
    define_asset_job,
    job,
    op,
)
from dagster._core.loader import LoadingContextForTest

from assets import all_assets, all_checks
from assets.checks import check_key, checks_of
from jobs import catch_up, rebuild_gold
from jobs.reporting import Reporter
from lakehouse.lake.table_io import append_rows, sql
from lakehouse.settings import Settings
from lakehouse.streams.progress import LayerCounter, TableProgress, layer_progress
from lakehouse.tables import OPS_CHECKS, SILVER_TRADES
from tests.support.rows import empty_lake, trade_row

SETTLED = AssetCheckKey(AssetKey(["silver", "quarantine"]), "quarantine_settled")
UNIQUE = AssetCheckKey(AssetKey(["silver", "trades"]), "key_unique")
BARS = AssetCheckKey(AssetKey(["gold", "bars_1m"]), "bars_consistent")
NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000


def one_trade(home: Path) -> Settings:
    """A lake with one trade. A stream looks at once, whenever it is asked, and reports what it must."""
    settings = empty_lake(home)
    append_rows(settings, SILVER_TRADES, [trade_row(1, NOW_US)])
    return settings.model_copy(update={"check_seconds": 0.001, "report_seconds": 300.0})


def stream(instance: DagsterInstance, settings: Settings, steps: Iterable[object]) -> ExecuteInProcessResult:
    """A run of a stream of Silver that looks once after each step."""

    def progress() -> dict[str, TableProgress]:
        return layer_progress(settings, "silver", LayerCounter())

    @op
    def host(context: OpExecutionContext) -> None:
        reporter = Reporter(context, settings, ("silver",))
        for _ in steps:
            reporter.look(progress)

    @job
    def hosting() -> None:
        host()

    result = hosting.execute_in_process(instance=instance)
    assert result.success
    return result


def by_hand(
    instance: DagsterInstance, settings: Settings, selection: AssetSelection, tags: dict[str, str] | None = None
) -> ExecuteInProcessResult:
    """Run an asset or a check as the buttons Materialize and Execute do."""
    definitions = Definitions(
        assets=all_assets(settings),
        asset_checks=all_checks(settings),
        jobs=[define_asset_job("by_hand", selection=selection), catch_up, rebuild_gold],
        resources={"settings": settings},
    )
    return definitions.resolve_job_def("by_hand").execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def materialize_silver(instance: DagsterInstance, settings: Settings) -> None:
    assert by_hand(instance, settings, AssetSelection.groups("silver")).success


def materialize_alone(instance: DagsterInstance, key: AssetKey) -> None:
    """A run that writes a table and evaluates nothing."""

    @op
    def write(context: OpExecutionContext) -> None:
        context.log_event(AssetMaterialization(key))

    @job
    def somebody_else() -> None:
        write()

    assert somebody_else.execute_in_process(instance=instance).success


def execute(instance: DagsterInstance, settings: Settings, key: AssetCheckKey) -> None:
    assert by_hand(instance, settings, AssetSelection.checks(key)).success


def shown(instance: DagsterInstance, key: AssetCheckKey) -> str:
    """The status on the Checks tab, by Dagster's own rule."""

    async def ask() -> str:
        context = LoadingContextForTest(instance)
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
        if record is None or not await record.targets_latest_materialization(context):
            return "Not evaluated"
        return (await record.resolve_status(context)).value

    return asyncio.run(ask())


def all_shown(instance: DagsterInstance, settings: Settings) -> set[str]:
    return {shown(instance, check_key(check)) for check in checks_of(settings, ("silver",))}


def history(instance: DagsterInstance, key: AssetCheckKey) -> list[str]:
    """The rows of a check's history, the oldest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    return [record.status.value for record in reversed(records)]


def evaluations(settings: Settings, key: AssetCheckKey) -> list[bool]:
    """Those that stand in ops/checks."""
    table = "/".join(key.asset_key.path)
    where = f"table_path = '{table}' AND check_name = '{key.name}'"
    rows = sql(settings, f"SELECT passed FROM c WHERE {where} ORDER BY evaluated_at", c=OPS_CHECKS)
    return [row["passed"] for row in rows.to_pylist()]


def materialized(instance: DagsterInstance, key: AssetKey) -> int:
    return len(instance.fetch_materializations(key, limit=1000).records)
