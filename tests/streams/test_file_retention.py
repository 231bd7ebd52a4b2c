"""Files that no version names that anybody may ask for go, in every table; all others stay, whoever wrote them."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.lake import table_cache, table_io
from lakehouse.lake.lease import Turn
from lakehouse.settings import Settings
from lakehouse.streams import file_retention
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    LAYERS,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.rows import bar_row, batch_row, empty_lake, message_row, trade_row

NOW_US = round(dt.datetime.now(dt.UTC).timestamp() * 1_000_000)
HOUR_US = 3_600_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def data_files(settings: Settings, table: Table) -> set[Path]:
    folder = Path(table_io.table_uri(settings, table))
    return {file for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}


def age(files: set[Path], hours: float) -> None:
    """Make files look as if they had been written so long ago."""
    at = time.time() - hours * 3_600
    for file in files:
        os.utime(file, (at, at))


def orphan(settings: Settings, table: Table, hours: float) -> Path:
    """Leave the files of a writer that is killed before its commit."""
    folder = Path(table_io.table_uri(settings, table))
    for name in table.partition_by:
        folder /= f"{name}=2026-11-01" if name != "topic" else "topic=crypto.trades"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "part-00000-0c0ffee0-dead-4bee-8000-000000000000-c000.zstd.parquet"
    file.write_bytes(b"PAR1 half a file")
    age({file}, hours)
    return file


@pytest.mark.parametrize(
    "table",
    [BRONZE_MESSAGES, SILVER_TRADES, SILVER_QUARANTINE, GOLD_BARS_1M, OPS_BATCHES],
    ids=lambda table: table.path,
)
def test_what_a_killed_writer_left_goes_from_every_table(settings: Settings, table: Table) -> None:
    old = orphan(settings, table, hours=1.1)
    before = table_io.open_table(settings, table).version()
    Upkeep(settings, LAYERS).do()
    assert not old.exists()
    assert table_io.open_table(settings, table).version() == before, "nobody's commit is in the way of a stream"


@pytest.mark.parametrize("table", [BRONZE_MESSAGES, GOLD_BARS_1M], ids=lambda table: table.path)
def test_what_was_written_in_the_last_hour_stays(settings: Settings, table: Table) -> None:
    young = orphan(settings, table, hours=0.9)
    Upkeep(settings, LAYERS).do()
    assert young.exists()


def test_a_batch_that_has_written_and_not_committed_loses_nothing(settings: Settings) -> None:
    """However old its files are: a machine may have slept between the two."""
    with Turn(settings, "bronze"), BulkAppend(settings, BRONZE_MESSAGES) as append:
        append.add(pa.Table.from_pylist([message_row(1)], schema=table_io.arrow_schema(BRONZE_MESSAGES)))
        age(data_files(settings, BRONZE_MESSAGES), hours=30)
        upkeep = Upkeep(settings, LAYERS)
        upkeep.do()
        append.commit()
    upkeep.do()
    assert table_io.sql(settings, 'SELECT "offset" FROM t', t=BRONZE_MESSAGES).num_rows == 1


def test_the_old_whole_behind_a_rebuild_goes_and_the_new_one_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        table_io.append_rows(settings, SILVER_TRADES, [trade_row(number)])
    old = data_files(settings, SILVER_TRADES)
    rows = [trade_row(number) for number in range(1, 4)]
    table_io.overwrite(settings, SILVER_TRADES, pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_TRADES)))
    new = data_files(settings, SILVER_TRADES) - old
    age(old | new, hours=10)
    Upkeep(settings, LAYERS).do()
    assert data_files(settings, SILVER_TRADES) == old | new, "lost by the table a moment ago"
    monkeypatch.setattr(file_retention, "KEPT_HOURS", 0)
    time.sleep(0.01)
    Upkeep(settings, LAYERS).do()
    assert data_files(settings, SILVER_TRADES) == new
    assert table_io.row_count(table_io.open_table(settings, SILVER_TRADES)) == 3


def record(settings: Settings, query: str, number: int, hours: float, **columns: Any) -> None:
    table_io.append_rows(settings, OPS_BATCHES, [batch_row(query, number, NOW_US - round(hours * HOUR_US), **columns)])


def forget_removals(settings: Settings, table: Table) -> None:
    """Do what six hours do: a checkpoint names only files that the table has."""
    there = table_io.open_table(settings, table)
    there.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 seconds"})
    time.sleep(0.01)
    uri = table_io.table_uri(settings, table)
    DeltaTable(uri).create_checkpoint()
    table_cache.forget(uri)


def test_versions_of_recent_batches_stay_readable_when_checkpoints_have_forgotten_their_files(
    settings: Settings,
) -> None:
    """In a quiet market, or after a night, the newest batches may be of yesterday."""
    named = table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(trades=1)])
    table_io.overwrite(
        settings, GOLD_BARS_1M, pa.Table.from_pylist([bar_row(trades=2)], schema=table_io.arrow_schema(GOLD_BARS_1M))
    )
    lost = table_io.open_table(settings, GOLD_BARS_1M).version()
    table_io.overwrite(
        settings, GOLD_BARS_1M, pa.Table.from_pylist([bar_row(trades=3)], schema=table_io.arrow_schema(GOLD_BARS_1M))
    )
    forget_removals(settings, GOLD_BARS_1M)
    age(data_files(settings, GOLD_BARS_1M), hours=30)
    record(settings, "gold", 1, 20, versions={GOLD_BARS_1M.path: named}, source_end={"version": 0, "complete": True})
    Upkeep(settings, LAYERS).do()
    there = table_io.sql(settings, "SELECT trades FROM t", t=table_io.open_table(settings, GOLD_BARS_1M, named))
    assert there.column("trades").to_pylist() == [1]
    assert table_io.sql(settings, "SELECT trades FROM t", t=GOLD_BARS_1M).column("trades").to_pylist() == [3]
    assert len(data_files(settings, GOLD_BARS_1M)) == 2, f"version {lost} is nobody's"


def test_what_a_stream_has_yet_to_read_stays(settings: Settings) -> None:
    """Gold stands at a version of Silver that has been joined since; the removal is out of the checkpoints."""
    for number in range(1, 4):
        read = table_io.append_rows(settings, SILVER_TRADES, [trade_row(number)])
    table_io.open_table(settings, SILVER_TRADES).optimize.compact()
    forget_removals(settings, SILVER_TRADES)
    files = data_files(settings, SILVER_TRADES)
    age(files, hours=30)
    record(settings, "gold", 1, 20, source_end={"version": read, "complete": True}, versions={})
    Upkeep(settings, LAYERS).do()
    assert data_files(settings, SILVER_TRADES) == files


def test_a_full_disk_in_upkeep_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever table it is that cannot be written; the others are looked after all the same."""
    blocked = Path(table_io.table_uri(settings, SILVER_CONTINUITY), "_delta_log", f"{0:020}.checkpoint.parquet")
    blocked.mkdir()
    monkeypatch.setitem(table_io.PROPERTIES, "delta.checkpointInterval", "1")
    old = orphan(settings, SILVER_TRADES, hours=2)
    upkeep = Upkeep(settings, LAYERS)
    upkeep.do()
    assert not old.exists()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("upkeep of the log of silver/continuity failed: ")
    assert "\n" not in line
    assert Path(table_io.table_uri(settings, SILVER_TRADES), "_delta_log", blocked.name).is_file()
    blocked.rmdir()
    caplog.clear()
    upkeep.do()
    assert blocked.is_file()
    assert not caplog.records


UNLISTED = (
    "part-00000-0c0ffee0-dead-4bee-8000-000000000000-c000.zstd.parquet#1",
    "event_date=2026-11-01/part-00000-0c0ffee0.parquet#12",
    ".part-00000-0c0ffee0.parquet.crc",
    ".hidden",
    "_temporary/0/part-00000-0c0ffee0.parquet",
)


@pytest.mark.parametrize(("hours", "goes"), [(1.1, True), (0.9, False)])
@pytest.mark.parametrize("name", UNLISTED)
def test_what_vacuum_never_lists_goes_after_the_same_time(
    settings: Settings, name: str, hours: float, goes: bool
) -> None:
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)])
    named = data_files(settings, SILVER_TRADES)
    log = Path(table_io.table_uri(settings, SILVER_TRADES), "_delta_log")
    ours = {log / ".kept", log.parent / "named#one"}
    file = log.parent / name
    for one in {file, *ours}:
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_bytes(b"half a file")
    age({file}, hours)
    age(named | (ours - {log.parent / "named#one"}), 10)
    Upkeep(settings, LAYERS).do()
    assert file.exists() is not goes
    assert not [one for one in named | ours if not one.exists()]
