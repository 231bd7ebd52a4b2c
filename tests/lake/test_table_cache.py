"""Tables that are kept open follow other writers, other tables at the same place and other threads."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from lakehouse.errors import TerminalError
from lakehouse.lake import table_cache, table_io
from lakehouse.settings import Settings
from lakehouse.tables import (
    SILVER_TRADES,
    Table,
)
from tests.support.rows import empty_lake, trade_row


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def count(settings: Settings, table: Table) -> int:
    return table_io.row_count(table_io.open_table(settings, table))


def test_a_table_that_is_kept_open_follows_other_writers(settings: Settings) -> None:
    opened = table_io.open_table(settings, SILVER_TRADES)
    other = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
    for number in range(1, 4):
        rows = pa.Table.from_pylist([trade_row(number)], schema=table_io.arrow_schema(SILVER_TRADES))
        properties = CommitProperties(app_transactions=[Transaction("somebody", number)])
        write_deltalake(other, rows, mode="append", commit_properties=properties)
        again = table_io.open_table(settings, SILVER_TRADES)
        assert again is opened
        assert (again.version(), again.transaction_version("somebody")) == (number, number)
        assert count(settings, SILVER_TRADES) == number
    other.delete()
    assert count(settings, SILVER_TRADES) == 0
    assert table_io.row_count(table_io.open_table(settings, SILVER_TRADES, 3)) == 3


def test_a_table_that_has_moved_far_is_opened_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moved it: this thread's own commits, or somebody else's."""
    monkeypatch.setattr(table_cache, "MOST_MOVES", 3)
    other = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
    for own in (True, False):
        opened = table_io.open_table(settings, SILVER_TRADES)
        for number in range(3):
            assert table_io.open_table(settings, SILVER_TRADES) is opened
            if own:
                table_io.append_rows(settings, SILVER_TRADES, [trade_row(number)])
            else:
                other.update_incremental()
                rows = pa.Table.from_pylist([trade_row(number)], schema=table_io.arrow_schema(SILVER_TRADES))
                write_deltalake(other, rows, mode="append")
        if not own:
            assert table_io.open_table(settings, SILVER_TRADES) is opened
        assert table_io.open_table(settings, SILVER_TRADES) is not opened
        assert opened.version() == table_io.open_table(settings, SILVER_TRADES).version()


def test_a_table_that_was_moved_away_is_made_anew_though_its_first_commit_had_gone(settings: Settings) -> None:
    """The logs of tables are cut, so that a first commit's file may be missing with and without the table."""
    for number in range(1, 3):
        table_io.append_rows(settings, SILVER_TRADES, [trade_row(number)])
    folder = Path(table_io.table_uri(settings, SILVER_TRADES))
    DeltaTable(str(folder)).create_checkpoint()
    (folder / "_delta_log" / f"{0:020}.json").unlink()
    assert count(settings, SILVER_TRADES) == 2
    folder.rename(folder.parent / "moved")
    with pytest.raises(TerminalError, match="no table silver/trades"):
        table_io.open_table(settings, SILVER_TRADES)
    (folder.parent / "moved").rename(folder)
    assert count(settings, SILVER_TRADES) == 2
    folder.rename(folder.parent / "moved")
    table_io.ensure_tables(settings)
    assert count(settings, SILVER_TRADES) == 0
    assert table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)]) == 1


def test_a_table_made_anew_at_the_same_place_is_another_one(settings: Settings) -> None:
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)])
    old = table_io.open_table(settings, SILVER_TRADES).metadata().id
    shutil.rmtree(table_io.table_uri(settings, SILVER_TRADES))
    with pytest.raises(TerminalError, match="no table silver/trades"):
        table_io.open_table(settings, SILVER_TRADES)
    table_io.ensure_tables(settings)
    assert table_io.open_table(settings, SILVER_TRADES).metadata().id != old
    shutil.rmtree(table_io.table_uri(settings, SILVER_TRADES))
    table_io.ensure_tables(settings)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(number) for number in range(2, 7)])
    assert count(settings, SILVER_TRADES) == 5


def test_threads_do_not_move_each_others_tables(settings: Settings) -> None:
    opened = table_io.open_table(settings, SILVER_TRADES)
    thread = threading.Thread(target=lambda: table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)]))
    thread.start()
    thread.join()
    assert opened.version() == 0
    assert table_io.open_table(settings, SILVER_TRADES).version() == 1


def test_many_lakes_in_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cache, "MOST_OPENED", 2)
    lakes = [empty_lake(tmp_path / str(number)) for number in range(3)]
    for number, one in enumerate(lakes * 2):
        table_io.append_rows(one, SILVER_TRADES, [trade_row(number)])
    assert [count(one, SILVER_TRADES) for one in lakes] == [2, 2, 2]
