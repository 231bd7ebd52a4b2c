"""Commits beside maintenance by another process: made again if no row of ours is at stake."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import silver_commits
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_TRADES
from tests.support.commits import append, broken, in_log, offsets, on_disk, rows_of
from tests.support.rows import NOON_US, bar_row, empty_lake, trade_row


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def vacuum(table: DeltaTable) -> None:
    """Two commits, if there is something to delete."""
    orphan = Path(table.table_uri.removeprefix("file://")) / "part-of-nobody.parquet"
    orphan.write_bytes(b"")
    os.utime(orphan, (0, 0))
    assert table.vacuum(1, dry_run=False, enforce_retention_duration=False, full=True)


def optimize_and_vacuum(table: DeltaTable) -> None:
    table.optimize.compact()
    vacuum(table)


def set_properties(table: DeltaTable) -> None:
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})


def describe(table: DeltaTable) -> None:
    table.alter.set_table_description("trades, each once")


MAINTENANCE: dict[str, Callable[[DeltaTable], object]] = {
    "vacuum": vacuum,
    "optimize": lambda table: table.optimize.compact(),
    "both": optimize_and_vacuum,
    "properties": set_properties,
    "description": describe,
}


@pytest.mark.parametrize("kind", list(MAINTENANCE))
def test_a_commit_that_maintenance_was_quicker_than_is_made_again(settings: Settings, kind: str) -> None:
    silver_commits.append_trades(rows_of(SILVER_TRADES, trade_row(1)), settings, 0)
    silver_commits.append_trades(rows_of(SILVER_TRADES, trade_row(2)), settings, 1)
    with BulkAppend(settings, SILVER_TRADES) as rows:
        rows.add(rows_of(SILVER_TRADES, trade_row(3)))
        maintained = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
        MAINTENANCE[kind](maintained)
        assert maintained.version() > 2
        rows.commit(Transaction(silver_commits.APPENDS, 3))
    there = table_io.sql(settings, "SELECT trade_id FROM t ORDER BY trade_id", t=SILVER_TRADES)
    assert there.column("trade_id").to_pylist() == [1, 2, 3]
    assert table_io.open_table(settings, SILVER_TRADES).transaction_version(silver_commits.APPENDS) == 3


def test_bronze_goes_on_beside_maintenance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    append(settings, 1)

    def overtaken(commit: Callable[[], None]) -> None:
        vacuum(DeltaTable(table_io.table_uri(settings, BRONZE_MESSAGES)))
        commit()

    broken(monkeypatch, overtaken)
    append(settings, 2)
    assert offsets(settings) == [1, 2]


@pytest.mark.parametrize("change", [set_properties, describe])
def test_bronze_goes_on_beside_a_change_of_properties(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, change: Callable[[DeltaTable], None]
) -> None:
    append(settings, 1)

    def overtaken(commit: Callable[[], None]) -> None:
        change(DeltaTable(table_io.table_uri(settings, BRONZE_MESSAGES)))
        commit()

    broken(monkeypatch, overtaken)
    append(settings, 2)
    assert offsets(settings) == [1, 2]


def test_a_new_column_is_no_maintenance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    append(settings, 1)

    def overtaken(commit: Callable[[], None]) -> None:
        there = DeltaTable(table_io.table_uri(settings, BRONZE_MESSAGES))
        there.alter.add_columns(Field("surprise", PrimitiveType("long")))
        commit()

    broken(monkeypatch, overtaken)
    with pytest.raises(RetriableError, match="somebody else's commit"):
        append(settings, 2)
    assert offsets(settings) == [1]


@pytest.mark.parametrize("also", [(), ("vacuum",), ("properties",)])
def test_somebody_who_has_used_the_transaction_is_no_maintenance(settings: Settings, also: tuple[str, ...]) -> None:
    with BulkAppend(settings, SILVER_TRADES) as rows:
        rows.add(rows_of(SILVER_TRADES, trade_row(1)))
        theirs = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
        for one in also:
            MAINTENANCE[one](theirs)
        properties = CommitProperties(app_transactions=[Transaction(silver_commits.APPENDS, 1)])
        write_deltalake(theirs, rows_of(SILVER_TRADES, trade_row(1)), mode="append", commit_properties=properties)
        with pytest.raises(CommitFailedError):
            rows.commit(Transaction(silver_commits.APPENDS, 1))
    assert table_io.row_count(table_io.open_table(settings, SILVER_TRADES)) == 1
    assert on_disk(settings, SILVER_TRADES) == in_log(settings, SILVER_TRADES)


def test_a_file_that_was_joined_meanwhile_is_not_taken_out_again(settings: Settings) -> None:
    """Its rows are in another file by then: to take them out of the old one would leave them twice."""
    for minute in range(2):
        table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US + minute * 60_000_000)])
    with BulkAppend(settings, GOLD_BARS_1M) as rows:
        file = pa.table(rows.delta.get_add_actions()).slice(0, 1).to_pylist()[0]
        rows.add(rows_of(GOLD_BARS_1M, bar_row(NOON_US, revision=2)))
        rows.remove(file["path"], file["size_bytes"], {"bar_date": str(dt.date(2026, 11, 1))})
        MAINTENANCE["optimize"](DeltaTable(table_io.table_uri(settings, GOLD_BARS_1M)))
        with pytest.raises(RetriableError, match="somebody else's commit"):
            rows.commit_alone()
    assert table_io.row_count(table_io.open_table(settings, GOLD_BARS_1M)) == 2
