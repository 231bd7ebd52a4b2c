"""Logs stay short, and no version goes that a stream, or the audit of a recent batch, may still ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.lake import table_io
from lakehouse.lake.table_log import checkpoints, log_files
from lakehouse.settings import Settings
from lakehouse.streams import log_retention, upkeep
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, LAYERS, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES, Table
from tests.support.rows import NOON_US, batch_row, empty_lake


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake whose commits may go at once, with a checkpoint in five of them; two batches of each query are recent."""
    monkeypatch.setattr(table_io, "PROPERTIES", table_io.PROPERTIES | {"delta.checkpointInterval": "5"})
    monkeypatch.setattr(table_io, "LOG_SECONDS", 0)
    monkeypatch.setattr(table_io, "HISTORY_SECONDS", 0)
    monkeypatch.setattr(log_retention, "KEPT_BATCHES", 2)
    return empty_lake(tmp_path)


def commit(settings: Settings, table: Table, count: int) -> None:
    for number in range(count):
        table_io.open_table(settings, table).alter.set_table_name(f"{table.path} {number}")


def record(settings: Settings, query: str, batch_id: int, source: int, **versions: int) -> None:
    """A row of ops/batches: a query has read its source up to a version and left these versions of tables."""
    by_path = {"bronze": BRONZE_MESSAGES.path, "silver": SILVER_TRADES.path, "gold": GOLD_BARS_1M.path}
    row = batch_row(
        query,
        batch_id,
        NOON_US + batch_id * 1_000_000,
        source_end={"version": source, "complete": True} if query != "bronze" else {},
        versions={by_path[layer]: version for layer, version in versions.items()},
    )
    table_io.append_rows(settings, OPS_BATCHES, [row])


def commits(settings: Settings, table: Table) -> list[int]:
    log = Path(table_io.table_uri(settings, table)) / "_delta_log"
    return sorted(int(file.stem) for file in log.glob("*.json"))


def readable(settings: Settings, table: Table, version: int) -> bool:
    try:
        return DeltaTable(table_io.table_uri(settings, table), version=version).version() == version
    except Exception:
        return False


def run(settings: Settings, layers: tuple[str, ...] = LAYERS) -> None:
    time.sleep(0.01)  # a file of this very millisecond is not older than 0 seconds
    Upkeep(settings, layers).do()


def test_what_a_checkpoint_stands_for_goes(settings: Settings) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    for batch in range(3):
        record(settings, "bronze", batch, 0, bronze=20 + batch)
        record(settings, "silver", batch, 20 + batch, silver=0)
    run(settings)
    assert commits(settings, BRONZE_MESSAGES) == [19, 20, 21, 22, 23]
    assert all(readable(settings, BRONZE_MESSAGES, version) for version in range(20, 24))
    commit(settings, BRONZE_MESSAGES, 1)
    assert table_io.open_table(settings, BRONZE_MESSAGES).version() == 24


def test_a_version_that_a_recent_batch_names_stays(settings: Settings) -> None:
    """Versions of a source, of what the batch wrote, and of a batch that is not the newest."""
    for table in (BRONZE_MESSAGES, SILVER_TRADES, GOLD_BARS_1M):
        commit(settings, table, 23)
    for batch in range(2):
        record(settings, "bronze", batch, 0, bronze=23)
        record(settings, "silver", batch, 17 + batch, silver=17 + batch)
        record(settings, "gold", batch, 17 + batch, gold=17 + batch)
    run(settings)
    for table in (BRONZE_MESSAGES, SILVER_TRADES, GOLD_BARS_1M):
        assert commits(settings, table) == list(range(24)), table.path
    for batch in (2, 3):
        record(settings, "silver", batch, 23, silver=20 + batch)
        record(settings, "gold", batch, 22, gold=18)
    run(settings)
    assert commits(settings, BRONZE_MESSAGES)[0] == commits(settings, SILVER_TRADES)[0] == 19
    assert commits(settings, GOLD_BARS_1M)[0] == 14
    assert readable(settings, GOLD_BARS_1M, 18)


def test_nothing_goes_while_a_stream_is_behind(settings: Settings) -> None:
    """Not even of other tables: an older batch of Gold belongs to older versions of all of them."""
    for table in (BRONZE_MESSAGES, SILVER_TRADES):
        commit(settings, table, 23)
    for batch in range(2):
        record(settings, "bronze", batch, 0, bronze=23)
        record(settings, "silver", batch, 23, silver=22 + batch)
    record(settings, "gold", 0, 12, gold=0)
    run(settings)
    assert commits(settings, BRONZE_MESSAGES) == commits(settings, SILVER_TRADES) == list(range(24))
    record(settings, "gold", 1, 22, gold=0)
    record(settings, "gold", 2, 23, gold=0)
    run(settings)
    assert commits(settings, BRONZE_MESSAGES)[0] == commits(settings, SILVER_TRADES)[0] == 19


def test_a_run_cleans_the_tables_of_its_layers(settings: Settings) -> None:
    for table in (BRONZE_MESSAGES, SILVER_TRADES, OPS_BATCHES):
        commit(settings, table, 23)
    run(settings, ("silver",))
    assert [len(commits(settings, table)) for table in (BRONZE_MESSAGES, SILVER_TRADES, OPS_BATCHES)] == [24, 5, 24]
    run(settings, ("gold",))
    assert [len(commits(settings, table)) for table in (BRONZE_MESSAGES, OPS_BATCHES)] == [24, 5]


def test_the_log_of_the_last_minutes_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    monkeypatch.setattr(table_io, "LOG_SECONDS", 300)
    run(settings)
    assert commits(settings, BRONZE_MESSAGES) == list(range(24))


def test_the_last_hour_of_what_users_read_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (BRONZE_MESSAGES, SILVER_TRADES, SILVER_CONTINUITY, GOLD_BARS_1M):
        commit(settings, table, 23)
    monkeypatch.setattr(table_io, "HISTORY_SECONDS", 3_600)
    run(settings)
    assert len(commits(settings, BRONZE_MESSAGES)) == 5
    for table in (SILVER_TRADES, SILVER_CONTINUITY, GOLD_BARS_1M):
        assert commits(settings, table) == list(range(24))


def test_it_is_done_when_it_is_due(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    Upkeep(settings, LAYERS).idle()
    assert len(commits(settings, BRONZE_MESSAGES)) == 24
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.0)
    Upkeep(settings, LAYERS).idle()
    assert len(commits(settings, BRONZE_MESSAGES)) == 5


# --------------------------------------------------------------------------------- what `_last_checkpoint` says or not


def _read_by(settings: Settings, *versions: int) -> None:
    """Silver stands at these versions of Bronze, and Bronze at 23."""
    for number, version in enumerate(versions):
        record(settings, "bronze", number, 0, bronze=23)
        record(settings, "silver", number, version, silver=0)


def _hint_missing(hint: Path) -> None:
    hint.unlink()


def _hint_older(hint: Path) -> None:
    hint.write_text('{"version":9,"size":3}', encoding="utf-8")


def _hint_garbage(hint: Path) -> None:
    hint.write_text('{"vers', encoding="utf-8")


@pytest.mark.parametrize("spoil", [_hint_missing, _hint_older, _hint_garbage])
def test_it_goes_by_the_checkpoints_that_are_there(settings: Settings, spoil: Callable[[Path], None]) -> None:
    """A process that was killed between a checkpoint and the hint to it: the hint is older, or missing."""
    commit(settings, BRONZE_MESSAGES, 23)
    log = Path(table_io.table_uri(settings, BRONZE_MESSAGES)) / "_delta_log"
    assert sorted(int(file.name[:20]) for file in log.glob("*.checkpoint.parquet")) == [4, 9, 14, 19]
    _read_by(settings, 16, 17)
    spoil(log / "_last_checkpoint")
    log_retention.clean_log(settings, BRONZE_MESSAGES, 16)
    assert commits(settings, BRONZE_MESSAGES) == list(range(14, 24))
    assert all(readable(settings, BRONZE_MESSAGES, version) for version in range(14, 24))
    assert DeltaTable(table_io.table_uri(settings, BRONZE_MESSAGES)).version() == 23


@pytest.mark.parametrize(("needed", "first"), [(3, 0), (4, 4), (8, 4), (9, 9), (19, 19), (23, 19), (None, 19)])
def test_no_version_goes_that_is_needed(settings: Settings, needed: int | None, first: int) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    log_retention.clean_log(settings, BRONZE_MESSAGES, needed)
    assert commits(settings, BRONZE_MESSAGES) == list(range(first, 24))
    assert all(readable(settings, BRONZE_MESSAGES, version) for version in range(first, 24))


def test_a_checkpoint_that_is_no_file_or_is_not_whole_stands_for_nothing(settings: Settings) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    log = Path(table_io.table_uri(settings, BRONZE_MESSAGES)) / "_delta_log"
    for version in (14, 19):
        (log / f"{version:020}.checkpoint.parquet").unlink()
    (log / f"{14:020}.checkpoint.parquet").mkdir()
    (log / f".{12:020}.checkpoint.parquet.0c0ffee0.tmp").write_bytes(b"")
    (log / f"{13:020}.checkpoint.parquet#1").write_bytes(b"")
    log_retention.clean_log(settings, BRONZE_MESSAGES, None)
    assert commits(settings, BRONZE_MESSAGES) == list(range(9, 24))
    (log / f"{19:020}.checkpoint.parquet").write_bytes(b"")  # a machine that failed before it was on the disk
    with pytest.raises((pa.ArrowInvalid, OSError)):
        log_retention.clean_log(settings, BRONZE_MESSAGES, None)
    assert commits(settings, BRONZE_MESSAGES) == list(range(9, 24))


def test_what_killed_writers_of_a_log_left_goes_too(settings: Settings) -> None:
    commit(settings, BRONZE_MESSAGES, 23)
    log = Path(table_io.table_uri(settings, BRONZE_MESSAGES)) / "_delta_log"
    old = [f".{7:020}.json.0c0ffee0.tmp", f"{8:020}.json#1", f"{9:020}.crc", f".{10:020}.checkpoint.parquet.0.tmp"]
    for name in (*old, f"{21:020}.crc", "_last_checkpoint"):
        (log / name).touch()
    time.sleep(0.01)
    log_retention.clean_log(settings, BRONZE_MESSAGES, None)
    assert not [name for name in old if (log / name).exists()]
    assert (log / f"{21:020}.crc").exists()
    assert (log / "_last_checkpoint").exists()


def test_checkpoints_come_by_upkeep_also_where_one_could_not_be_written(settings: Settings) -> None:
    uri = table_io.table_uri(settings, SILVER_CONTINUITY)
    blocked = Path(uri) / "_delta_log" / f"{9:020}.checkpoint.parquet"
    blocked.mkdir()
    found: list[list[int]] = []
    for _ in range(11):
        table_io.overwrite(settings, SILVER_CONTINUITY, table_io.arrow_schema(SILVER_CONTINUITY).empty_table())
        run(settings, ("silver",))
        found.append(checkpoints(log_files(uri)))
    assert found == [[]] * 3 + [[4]] * 5 + [[4]] + [[10]] * 2
    assert commits(settings, SILVER_CONTINUITY) == [10, 11]
