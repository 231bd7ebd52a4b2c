from __future__ import annotations

import datetime as dt
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import DeltaError

from lakehouse.errors import SettingError, TerminalError
from lakehouse.lake import table_cache, table_io
from lakehouse.settings import BAR_SIZES, Settings, load_settings
from lakehouse.tables import (
    BAR_MINUTES,
    BRONZE_MESSAGES,
    BY_PATH,
    GOLD_BARS_1M,
    OPS_BATCHES,
    SILVER_TRADES,
    TABLES,
    Table,
)
from tests.conftest import SettingsFactory
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, message_row, trade_row

DAY_US = 86_400_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def count(settings: Settings, table: Table) -> int:
    return table_io.row_count(table_io.open_table(settings, table))


def test_creating_twice_changes_nothing(settings: Settings) -> None:
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)])
    table_io.ensure_tables(settings)
    assert table_io.open_table(settings, SILVER_TRADES).version() == 1
    assert count(settings, SILVER_TRADES) == 1


def test_a_table_of_before_gets_the_properties_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps others, and its rows."""
    now = table_io.PROPERTIES
    monkeypatch.setattr(table_io, "PROPERTIES", {"delta.checkpointInterval": "100", "delta.appendOnly": "true"})
    settings = empty_lake(tmp_path)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)])
    monkeypatch.setattr(table_io, "PROPERTIES", now)
    table_io.ensure_tables(settings)
    table_io.ensure_tables(settings)
    table = table_io.open_table(settings, SILVER_TRADES)
    assert table.metadata().configuration == {**now, "delta.appendOnly": "true"}
    assert (table.version(), count(settings, SILVER_TRADES)) == (2, 1)


def test_a_look_sees_what_another_process_has_committed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next commit's file; where it has come and gone, after a time."""
    kept = table_io.open_table(settings, SILVER_TRADES)
    known = kept.version()
    write_deltalake(
        table_io.table_uri(settings, SILVER_TRADES),
        pa.Table.from_pylist([trade_row(1)], schema=table_io.arrow_schema(SILVER_TRADES)),
        mode="append",
    )
    assert table_io.open_table(settings, SILVER_TRADES).version() == known + 1
    listed: list[int] = []
    original = DeltaTable.update_incremental
    monkeypatch.setattr(
        DeltaTable,
        "update_incremental",
        lambda self: (listed.append(1), original(self))[1],  # type: ignore[func-returns-value]
    )
    table_io.open_table(settings, SILVER_TRADES)
    assert not listed
    monkeypatch.setattr(table_cache, "TRUSTED_SECONDS", 0.0)
    table_io.open_table(settings, SILVER_TRADES)
    assert listed


def test_creating_from_several_threads_at_once(tmp_path: Path) -> None:
    settings, errors = load_settings(home=tmp_path), []

    def create() -> None:
        try:
            table_io.ensure_tables(settings)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    tables = table_io.active_tables(settings)
    assert [table_io.open_table(settings, table).version() for table in tables] == [0] * len(tables)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path)
def test_a_table_is_what_the_registry_says(tmp_path: Path, table: Table) -> None:
    settings = load_settings(home=tmp_path, bar_sizes=BAR_SIZES)
    table_io.ensure_tables(settings)
    delta_table = table_io.open_table(settings, table)
    found: Any = delta_table.schema().to_arrow()
    assert pa.schema(found).equals(table_io.arrow_schema(table))
    assert delta_table.metadata().partition_columns == list(table.partition_by)
    assert delta_table.metadata().description == table.grain
    assert delta_table.metadata().configuration == table_io.PROPERTIES


def test_bars_are_of_the_sizes_that_the_settings_say(settings: Settings) -> None:
    assert tuple(BAR_MINUTES) == BAR_SIZES
    assert [minutes for _, minutes in table_io.bar_tables(settings)] == [1, 5]
    more = load_settings(home=settings.home, bar_sizes="1d,15m")
    assert [(table.name, minutes) for table, minutes in table_io.bar_tables(more)] == [
        ("bars_1m", 1),
        ("bars_5m", 5),
        ("bars_15m", 15),
        ("bars_1d", 1440),
    ]
    paths = [table.path for table in table_io.active_tables(more)]
    assert "gold/bars_1d" in paths
    assert "gold/bars_1h" not in paths
    with pytest.raises(SettingError, match="unknown bar size '2m'; expected some of 1m, 5m, 15m, 1h, 1d"):
        load_settings(bar_sizes="1m,2m")


def test_the_registry_is_consistent() -> None:
    assert len(BY_PATH) == len(TABLES)
    for table in TABLES:
        assert len(set(table.column_names)) == len(table.columns)
        assert set(table.key) | set(table.partition_by) <= set(table.column_names)
        assert not any(column.nullable for column in table.columns if column.name in table.key)
        assert table.grain.startswith("One row per ")
        assert all(column.description for column in table.columns)


def test_an_append_of_a_transaction_is_exactly_once(settings: Settings) -> None:
    first = table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("stream", 0))
    assert table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("stream", 0)) == first
    assert count(settings, OPS_BATCHES) == 1
    second = table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 1)], ("stream", 1))
    assert second == first + 1
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("stream", 0))  # older than what was seen
    assert count(settings, OPS_BATCHES) == 2
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("another stream", 0))
    assert count(settings, OPS_BATCHES) == 3


def test_appends_without_a_transaction_add_up(settings: Settings) -> None:
    versions = [table_io.append_rows(settings, BRONZE_MESSAGES, [message_row(offset)]) for offset in range(3)]
    assert versions == [1, 2, 3]
    assert count(settings, BRONZE_MESSAGES) == 3


@pytest.mark.parametrize("column", ["venue", "trade_id", "price", "ts_event", "event_date"])
def test_a_null_where_none_is_allowed_is_refused(settings: Settings, column: str) -> None:
    with pytest.raises((DeltaError, ValueError, pa.ArrowInvalid)):
        table_io.append_rows(settings, SILVER_TRADES, [trade_row(1) | {column: None}])
    missing = trade_row(1)
    del missing[column]
    with pytest.raises((DeltaError, ValueError, pa.ArrowInvalid)):
        table_io.append_rows(settings, SILVER_TRADES, [missing])
    assert count(settings, SILVER_TRADES) == 0


def test_a_null_where_one_is_allowed_is_kept(settings: Settings) -> None:
    table_io.append_rows(settings, BRONZE_MESSAGES, [message_row(1, key=None, value_raw=None)])
    assert table_io.sql(settings, "SELECT key, value_raw FROM m", m=BRONZE_MESSAGES).to_pylist() == [
        {"key": None, "value_raw": None}
    ]


def test_a_decimal_with_too_many_digits_is_refused_not_rounded(settings: Settings) -> None:
    from decimal import Decimal

    for price in (Decimal("1e-19"), Decimal("1e20")):
        with pytest.raises(pa.ArrowInvalid):
            table_io.append_rows(settings, SILVER_TRADES, [trade_row(1, price=price)])


def test_row_count_of_any_version_and_after_compaction(settings: Settings) -> None:
    assert count(settings, SILVER_TRADES) == 0
    for n in range(3):
        table_io.append_rows(settings, SILVER_TRADES, [trade_row(10 * n + m, NOON_US) for m in range(n + 1)])
    versions = [table_io.open_table(settings, SILVER_TRADES, version) for version in range(4)]
    assert [table_io.row_count(one) for one in versions] == [0, 1, 3, 6]
    table_io.open_table(settings, SILVER_TRADES).optimize.compact()
    assert count(settings, SILVER_TRADES) == 6


def test_sql_over_a_registered_table_and_over_a_version(settings: Settings) -> None:
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(trades=3)])
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US + 1, trades=4)])
    query = "SELECT sum(n.trades) AS now, max(o.trades) AS before FROM n, o"
    rows = table_io.sql(settings, query, n=GOLD_BARS_1M, o=table_io.open_table(settings, GOLD_BARS_1M, 1)).to_pylist()
    assert rows == [{"now": 7, "before": 3}]


def test_a_missing_table_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TerminalError) as error:
        table_io.open_table(load_settings(home=tmp_path), SILVER_TRADES)
    text = str(error.value)
    assert text.startswith(f"no table silver/trades in {tmp_path / 'lake'}; expected ")
    assert "\n" not in text


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(KeyError):
        table_io.arrow_type("float")


def test_a_table_of_an_older_version_gets_the_columns_that_may_be_null(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    schema = pa.schema([field for field in table_io.arrow_schema(OPS_BATCHES) if field.name != "partitions"])
    uri = table_io.table_uri(settings, OPS_BATCHES)
    DeltaTable.create(uri, schema=schema, partition_by=list(OPS_BATCHES.partition_by))
    table_io.ensure_tables(settings)
    assert DeltaTable(uri).schema() == Schema.from_arrow(table_io.arrow_schema(OPS_BATCHES))
    version = DeltaTable(uri).version()
    table_io.ensure_tables(settings)
    assert DeltaTable(uri).version() == version


def test_a_table_that_must_be_written_anew_is_told_in_one_line(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    schema = pa.schema([field for field in table_io.arrow_schema(GOLD_BARS_1M) if field.name != "complete"])
    DeltaTable.create(table_io.table_uri(settings, GOLD_BARS_1M), schema=schema)
    with pytest.raises(TerminalError, match=r"gold/bars_1m of an older version \(no complete\).*move it and the gold"):
        table_io.ensure_tables(settings)


def test_the_days_of_a_table_at_any_version_come_from_its_log(settings: Settings) -> None:
    noon, day = dt.datetime.fromtimestamp(NOON_US / 1_000_000, dt.UTC).date(), dt.timedelta(days=1)
    assert table_io.days(settings, SILVER_TRADES) == {}
    began = time.time()
    first = table_io.append_rows(settings, SILVER_TRADES, [trade_row(1), trade_row(2), trade_row(3, NOON_US + DAY_US)])
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(4, NOON_US - DAY_US), trade_row(5, NOON_US)])
    there = table_io.days(settings, SILVER_TRADES)
    assert [(at, files.rows) for at, files in there.items()] == [(noon - day, 1), (noon, 3), (noon + day, 1)]
    assert all(began - 1 <= files.written <= time.time() + 1 for files in there.values())
    for file in Path(settings.lake, SILVER_TRADES.path).rglob("*.parquet"):
        file.unlink()
    assert {at: files.rows for at, files in table_io.days(settings, SILVER_TRADES, first).items()} == {
        noon: 2,
        noon + day: 1,
    }
