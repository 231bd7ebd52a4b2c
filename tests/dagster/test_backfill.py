"""Days of Gold rebuilt by a person: a range chosen in Dagster's real UI becomes one run that repairs the damage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterRunStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from assets.checks import check_key, checks_of
from assets.days import utc_today
from lakehouse.broker.ports import free_port
from lakehouse.lake.table_io import active_tables, append_rows, ensure_tables, open_table, sql
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, GOLD_MOVES, SILVER_TRADES, Table
from tests.conftest import SettingsFactory
from tests.support import ui
from tests.support.dagster_stack import DagsterStack, wait_for
from tests.support.rows import trade_row
from tests.support.truth import assert_bars_equal_fold

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.lakehouse, pytest.mark.spark, pytest.mark.timeout(600)]

#: Seconds for one step on a machine that other work shares; the run takes about 20 alone.
PATIENCE = 240.0

FIRST = utc_today() - dt.timedelta(days=5)
DAYS = tuple(FIRST + dt.timedelta(days=number) for number in range(3))


def gold_of(settings: Settings) -> tuple[Table, ...]:
    return tuple(table for table in active_tables(settings) if table.layer == "gold")


def content(settings: Settings, table: Table) -> list[dict[str, object]]:
    """A table's rows by key, without what tells when they were written."""
    names = [name for name in table.column_names if name not in ("revision", "updated_at")]
    query = f"SELECT {', '.join(names)} FROM t ORDER BY {', '.join(table.key)}"
    return list(sql(settings, query, t=table).to_pylist())


def revisions(settings: Settings, day: dt.date) -> set[int]:
    rows = sql(settings, f"SELECT DISTINCT revision FROM t WHERE bar_date = DATE '{day}'", t=GOLD_BARS_1M)
    return {row["revision"] for row in rows.to_pylist()}


@pytest.fixture
def lake(spark: SparkSession, settings_factory: SettingsFactory) -> Settings:
    """Three past days with twenty trades each in Silver, and Gold as the stream makes it of them."""
    settings = settings_factory(dagster_port=free_port(), first_day=FIRST - dt.timedelta(days=4))
    ensure_tables(settings)
    for number, day in enumerate(DAYS):
        noon = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp()) * 1_000_000
        trades = [(100 * number + place, noon + place * 20_000_000, Decimal(100 + place)) for place in range(20)]
        append_rows(settings, SILVER_TRADES, [trade_row(one, at, price=price) for one, at, price in trades])
    materialize(settings, ("gold",), timeout=120)
    return settings


def damage(settings: Settings) -> None:
    """A day without bars, one with wrong ones, one with a move that never was."""
    open_table(settings, GOLD_BARS_1M).delete(f"bar_date = '{DAYS[0]}'")
    open_table(settings, GOLD_BARS_5M).update(updates={"trades": "trades + 1"}, predicate=f"bar_date = '{DAYS[1]}'")
    start = dt.datetime.combine(DAYS[2], dt.time(3), dt.UTC)
    move = {"venue": "binance", "symbol": "BTC/USDT", "bar_start": start, "direction": "up", "revision": 1}
    prices = {"from_price": Decimal(1), "to_price": Decimal(2), "change": Decimal(1), "volume": Decimal(1)}
    append_rows(settings, GOLD_MOVES, [{**move, **prices, "trades": 1, "updated_at": start, "bar_date": DAYS[2]}])


@pytest.fixture
def stack(lake: Settings) -> Iterator[DagsterStack]:
    with DagsterStack(lake, webserver=True, sensors=False) as running:
        # A stream would have done so: the UI asks twice if an upstream table was never materialized.
        running.instance.report_runless_asset_event(AssetMaterialization(AssetKey(["silver", "trades"])))
        yield running


@pytest.mark.skipif(ui.chromium() is None, reason="no Chromium here")
def test_a_range_of_days_is_rebuilt_in_one_run(stack: DagsterStack) -> None:
    settings = stack.settings
    before = {table.path: content(settings, table) for table in gold_of(settings)}
    untouched = revisions(settings, DAYS[1])
    damage(settings)
    with pytest.raises(AssertionError):
        assert_bars_equal_fold(settings, 1)

    with ui.page(f"http://127.0.0.1:{settings.dagster_port}") as shown:
        ui.materialize_days(shown, "gold/bars_1m", str(DAYS[0]), str(DAYS[-1]))

    def launched() -> str | None:
        return next((record.dagster_run.run_id for record in stack.instance.get_run_records()), None)

    run_id = wait_for("the run of the backfill", launched, PATIENCE)
    try:
        stack.wait_status(run_id, DagsterRunStatus.SUCCESS, PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"{error}; {stack.logs()}") from None
    assert len(stack.instance.get_run_records()) == 1
    run = stack.instance.get_run_by_id(run_id)
    assert run is not None
    assert len(run.asset_check_selection or ()) == len(checks_of(settings, ("gold",)))

    for minutes in (1, 5):
        assert assert_bars_equal_fold(settings, minutes) > 0
    assert {table.path: content(settings, table) for table in gold_of(settings)} == before
    assert revisions(settings, DAYS[1]) == untouched  # what was right is not written again
    for table in gold_of(settings):
        key = AssetKey(table.path.split("/"))
        told = stack.instance.event_log_storage.get_materialized_partitions(key)
        assert told == {str(day) for day in DAYS}
    for check in checks_of(settings, ("gold",)):
        rows = stack.instance.event_log_storage.get_asset_check_execution_history(check_key(check), limit=100)
        # Nothing is left that was only planned, which the UI calls skipped.
        assert [(row.status, row.partition) for row in rows] == [
            (AssetCheckExecutionRecordStatus.SUCCEEDED, str(day)) for day in reversed(DAYS)
        ]
