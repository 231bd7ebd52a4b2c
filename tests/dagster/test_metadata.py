"""The metadata of a materialization, against its table."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from assets.days import utc_today
from assets.metadata import materializations, progress_metadata
from lakehouse.lake.table_io import active_tables, append_rows
from lakehouse.settings import Settings
from lakehouse.streams.progress import LayerCounter, TableProgress, layer_progress
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_CONTINUITY, SILVER_QUARANTINE, TABLES, Table
from tests.dagster.test_repair_sensor import ledger_row
from tests.replay.test_replay import quarantined, settle
from tests.support.rows import empty_lake


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Two open messages and one that was settled; two open gaps of 15 trades."""
    settings = empty_lake(tmp_path / "home")
    append_rows(settings, SILVER_QUARANTINE, [quarantined(0), quarantined(1), quarantined(2, "not_json")])
    settle(settings, 0)
    rows = [ledger_row("present", 1, 9), ledger_row("open", 10, 19), ledger_row("open", 30, 34)]
    append_rows(settings, SILVER_CONTINUITY, rows)
    return settings


def progress(path: str) -> TableProgress:
    offsets = {"crypto.trades": {"0": 3}} if path == BRONZE_MESSAGES.path else None
    return TableProgress(path, 3, 1, 2, 1, offsets, 0, dt.datetime.now(dt.UTC))


def test_quarantine_and_ledger_say_what_is_open(lake: Settings) -> None:
    quarantine = progress_metadata(lake, progress(SILVER_QUARANTINE.path))
    assert (quarantine["open"], quarantine["open_by_rule"].value) == (2, {"bad_price": 1, "not_json": 1})
    assert (quarantine["dagster/row_count"], quarantine["rows_added"]) == (3, 2)
    ledger = progress_metadata(lake, progress(SILVER_CONTINUITY.path))
    assert (ledger["open_holes"], ledger["missing_trades"]) == (2, 15)
    assert "rows_added" not in ledger  # its ranges grow and join


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path)
def test_eight_entries_at_most(lake: Settings, table: Table) -> None:
    """Each materialization of a stream is kept, so it is small."""
    assert len(progress_metadata(lake, progress(table.path))) <= 8


def test_every_table_that_is_not_a_ledger_is_written_by_a_layer(lake: Settings) -> None:
    written = [path for layer in ("silver", "gold") for path in layer_progress(lake, layer, LayerCounter())]
    layers = [table.path for table in active_tables(lake) if table.layer in ("silver", "gold")]
    assert written == layers


def test_gold_is_told_by_day(lake: Settings) -> None:
    (event,) = materializations(lake, progress(GOLD_BARS_1M.path), since=0.0)
    assert event.partition == str(utc_today())
    assert event.metadata["dagster/partition_row_count"].value == 0
    assert len(event.metadata) <= 8
    (event,) = materializations(lake, progress(SILVER_QUARANTINE.path), since=0.0)
    assert event.partition is None
