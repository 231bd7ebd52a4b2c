"""A commit that stands keeps its files, whatever its error says; one that does not stand leaves none."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import PrimitiveType

from lakehouse.errors import LeaseHeldError, RetriableError
from lakehouse.lake import table_io, table_log
from lakehouse.lake.lease import Lease
from lakehouse.settings import Settings
from lakehouse.streams import bulk_append, silver
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.compaction import UPKEEP_ERRORS
from lakehouse.streams.log_retention import write_checkpoint
from lakehouse.streams.replacement import replace
from lakehouse.streams.unfinished import Unfinished, begin, unfinished
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES, Table
from lakehouse.transforms.row_keys import RowKeys
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, message_row, trade_row
from tests.support.small_disk import small_disk

#: What a disk that gets full has left, in bytes: nothing, then room for one step more and more.
LEFT = (0, 4_096, 8_192, 12_288, 16_384, 24_576, 32_768, 49_152, 65_536)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def rows_of(table: Table, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table_io.arrow_schema(table))


def append(settings: Settings, number: int) -> None:
    """A batch of one message, as Bronze appends it."""
    with BulkAppend(settings, BRONZE_MESSAGES) as rows:
        rows.add(rows_of(BRONZE_MESSAGES, message_row(number)))
        rows.commit_alone(Transaction("bronze", number))


def on_disk(settings: Settings, table: Table) -> set[str]:
    folder = Path(table_io.table_uri(settings, table))
    return {file.name for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}


def in_log(settings: Settings, table: Table) -> set[str]:
    return {Path(uri).name for uri in DeltaTable(table_io.table_uri(settings, table)).file_uris()}


def offsets(settings: Settings) -> list[int]:
    found = table_io.sql(settings, 'SELECT "offset" FROM t ORDER BY "offset"', t=BRONZE_MESSAGES)
    return [row["offset"] for row in found.to_pylist()]


def broken(monkeypatch: pytest.MonkeyPatch, call: Callable[[Callable[[], None]], None]) -> None:
    """Put `call` around what deltalake does to commit, once."""
    original = DeltaTable.create_write_transaction
    left = [call]

    def commit(self: DeltaTable, *arguments: Any, **named: Any) -> None:
        done = left.pop() if left else lambda commit: commit()
        done(lambda: original(self, *arguments, **named))

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)


# ------------------------------------------------------------------------------------------------ a commit that stands


def test_a_checkpoint_that_cannot_be_written_is_no_error_of_a_commit(settings: Settings) -> None:
    """The issue's: a directory in the place of the checkpoint of version 49."""
    log = Path(table_io.table_uri(settings, BRONZE_MESSAGES), "_delta_log")
    blocked = log / f"{49:020}.checkpoint.parquet"
    blocked.mkdir()
    for number in range(51):
        append(settings, number)
    assert on_disk(settings, BRONZE_MESSAGES) == in_log(settings, BRONZE_MESSAGES)
    assert offsets(settings) == list(range(51))
    assert table_io.open_table(settings, BRONZE_MESSAGES).transaction_version("bronze") == 50
    write_checkpoint(settings, BRONZE_MESSAGES)
    assert table_log.checkpoints(table_log.log_files(table_io.table_uri(settings, BRONZE_MESSAGES))) == [51]


@pytest.mark.parametrize("error", [DeltaError("no answer"), OSError(28, "No space left"), RuntimeError("?")], ids=repr)
def test_an_error_behind_the_log_entry_is_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def answer_lost(commit: Callable[[], None]) -> None:
        commit()
        raise error

    broken(monkeypatch, answer_lost)
    append(settings, 1)
    append(settings, 2)
    assert offsets(settings) == [1, 2]
    assert on_disk(settings, BRONZE_MESSAGES) == in_log(settings, BRONZE_MESSAGES)


def test_a_conflict_with_oneself_is_a_commit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store that lost its answer is asked again, and says that the entry is there already."""

    def asked_twice(commit: Callable[[], None]) -> None:
        table = DeltaTable(table_io.table_uri(settings, BRONZE_MESSAGES))
        commit()
        rows = rows_of(BRONZE_MESSAGES, message_row(9))
        write_deltalake(table, rows, mode="append", commit_properties=CommitProperties(max_commit_retries=0))

    broken(monkeypatch, asked_twice)
    append(settings, 1)
    assert offsets(settings) == [1]
    append(settings, 2)
    assert offsets(settings) == [1, 2]


def test_silver_takes_its_own_commit_for_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_lost(commit: Callable[[], None]) -> None:
        commit()
        raise CommitFailedError("exceeded maximum commit attempts")

    broken(monkeypatch, answer_lost)
    silver.append_trades(rows_of(SILVER_TRADES, trade_row(1)), settings, 0)
    assert table_io.row_count(table_io.open_table(settings, SILVER_TRADES)) == 1
    assert on_disk(settings, SILVER_TRADES) == in_log(settings, SILVER_TRADES)


@pytest.mark.parametrize("error", [DeltaError("no answer"), OSError(5, "Input/output error")], ids=repr)
def test_rows_appended_and_written_anew_by_deltalake(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A row of the ledger ops/batches, and the ledger of ids."""
    original = write_deltalake

    def answer_lost(*arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        raise error

    monkeypatch.setattr("lakehouse.lake.table_io.write_deltalake", answer_lost)
    assert table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("stream", 0)) == 1
    assert table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0)], ("stream", 0)) == 1
    assert table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 1)]) == 2
    table_io.overwrite(settings, SILVER_CONTINUITY, table_io.arrow_schema(SILVER_CONTINUITY).empty_table())
    assert table_io.open_table(settings, SILVER_CONTINUITY).version() == 1


@pytest.mark.parametrize("table", [OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES], ids=lambda table: table.path)
def test_no_commit_of_ours_writes_a_checkpoint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    table_io.open_table(settings, table).alter.set_table_properties({"delta.checkpointInterval": "1"})
    for checkpoint in Path(table_io.table_uri(settings, table), "_delta_log").glob("*.checkpoint.parquet"):
        checkpoint.unlink()
    if table is OPS_BATCHES:
        table_io.append_rows(settings, table, [batch_row("gold", 0)])
    elif table is SILVER_CONTINUITY:
        table_io.overwrite(settings, table, table_io.arrow_schema(table).empty_table())
    else:
        begin(settings, Unfinished("x", 0))
        assert unfinished(settings) == Unfinished("x", 0)
        silver.append_trades(rows_of(table, trade_row(1)), settings, 2)
        table_io.ensure_tables(settings)  # sets today's properties again
    assert table_log.checkpoints(table_log.log_files(table_io.table_uri(settings, table))) == []


def test_a_log_is_the_same_by_the_way_of_an_object_store(settings: Settings) -> None:
    uri = table_io.table_uri(settings, BRONZE_MESSAGES)
    append(settings, 1)
    table_io.open_table(settings, BRONZE_MESSAGES).create_checkpoint()
    found = table_log.log_files(f"file://{uri}")
    assert [(file.version, file.kind) for file in found] == [(0, "json"), (1, "checkpoint.parquet"), (1, "json")]
    assert found == table_log.log_files(uri)
    assert not table_log.Commit(f"file://{uri}", 0).find().stands


# ---------------------------------------------------------------------------------------- a commit that does not stand


def test_what_was_never_committed_leaves_no_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(commit: Callable[[], None]) -> None:
        raise OSError(28, "No space left on device")

    broken(monkeypatch, fails)
    with pytest.raises(OSError, match="No space"):
        append(settings, 1)
    assert not on_disk(settings, BRONZE_MESSAGES)
    append(settings, 1)
    assert offsets(settings) == [1]


def test_files_stay_where_nobody_can_look(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit stands, but its answer and the log are away: to delete its files would lose them."""

    def answer_lost(commit: Callable[[], None]) -> None:
        commit()
        monkeypatch.setattr(table_log, "log_files", unreadable)
        raise DeltaError("no answer")

    def unreadable(uri: str) -> Any:
        raise OSError("no answer either")

    broken(monkeypatch, answer_lost)
    with pytest.raises(DeltaError, match=r"no answer$"):
        append(settings, 1)
    assert offsets(settings) == [1]
    assert on_disk(settings, BRONZE_MESSAGES) == in_log(settings, BRONZE_MESSAGES)


def test_files_stay_where_a_request_may_arrive_later(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store's: the log does not name them at the first look."""
    late: list[Callable[[], None]] = []

    def slow(commit: Callable[[], None]) -> None:
        late.append(commit)
        raise DeltaError("timed out")

    monkeypatch.setattr(bulk_append, "is_remote", lambda _: True)
    broken(monkeypatch, slow)
    with pytest.raises(DeltaError, match="timed out"):
        append(settings, 1)
    late[0]()
    assert offsets(settings) == [1]


# ----------------------------------------------------------------------------------------------- beside maintenance


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
    silver.append_trades(rows_of(SILVER_TRADES, trade_row(1)), settings, 0)
    silver.append_trades(rows_of(SILVER_TRADES, trade_row(2)), settings, 1)
    with BulkAppend(settings, SILVER_TRADES) as rows:
        rows.add(rows_of(SILVER_TRADES, trade_row(3)))
        maintained = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
        MAINTENANCE[kind](maintained)
        assert maintained.version() > 2
        rows.commit(Transaction(silver.APPENDS, 3))
    there = table_io.sql(settings, "SELECT trade_id FROM t ORDER BY trade_id", t=SILVER_TRADES)
    assert there.column("trade_id").to_pylist() == [1, 2, 3]
    assert table_io.open_table(settings, SILVER_TRADES).transaction_version(silver.APPENDS) == 3


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
        properties = CommitProperties(app_transactions=[Transaction(silver.APPENDS, 1)])
        write_deltalake(theirs, rows_of(SILVER_TRADES, trade_row(1)), mode="append", commit_properties=properties)
        with pytest.raises(CommitFailedError):
            rows.commit(Transaction(silver.APPENDS, 1))
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


# ------------------------------------------------------------------------------------------------------- a full disk


def _bronze(settings: Settings, number: int) -> None:
    append(settings, number)


def _silver(settings: Settings, number: int) -> None:
    known = table_io.open_table(settings, SILVER_TRADES).version()
    silver.append_trades(rows_of(SILVER_TRADES, trade_row(number)), settings, known)


def _gold(settings: Settings, number: int) -> None:
    at = NOON_US + number % 3 * 60_000_000
    gone = RowKeys.of_tuples([("binance", "BTC/USDT", at)])
    bar = rows_of(GOLD_BARS_1M, bar_row(at, revision=number + 1))
    replace(settings, GOLD_BARS_1M, gone, bar, Transaction("gold", number))


def _ops(settings: Settings, number: int) -> None:
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", number)], ("stream", number))


def _continuity(settings: Settings, number: int) -> None:
    table_io.overwrite(settings, SILVER_CONTINUITY, table_io.arrow_schema(SILVER_CONTINUITY).empty_table())


WRITERS: dict[Table, Callable[[Settings, int], None]] = {
    BRONZE_MESSAGES: _bronze,
    SILVER_TRADES: _silver,
    GOLD_BARS_1M: _gold,
    OPS_BATCHES: _ops,
    SILVER_CONTINUITY: _continuity,
}


@pytest.mark.parametrize("table", list(WRITERS), ids=lambda table: table.path)
def test_a_full_disk_at_each_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder, the file, its end, the log entry, the checkpoint: whatever does not fit."""
    monkeypatch.setitem(table_io.PROPERTIES, "delta.checkpointInterval", "2")
    settings = empty_lake(tmp_path)
    write = WRITERS[table]
    failed = 0
    with small_disk(Path(table_io.table_uri(settings, table)), megabytes=2) as disk:
        for number, left in enumerate(LEFT * 3, start=1):
            before = table_io.open_table(settings, table).version()
            disk.fill(left)
            try:
                write(settings, number)
            except (OSError, DeltaError, RetriableError):
                failed += 1
                assert DeltaTable(table_io.table_uri(settings, table)).version() == before, "an error, and it stands"
                disk.free()
                write(settings, number)
            disk.fill(left)
            with contextlib.suppress(*UPKEEP_ERRORS):
                write_checkpoint(settings, table)
            assert in_log(settings, table) <= on_disk(settings, table)
            assert table_io.open_table(settings, table).version() == before + 1
        disk.free()
        write_checkpoint(settings, table)
        assert failed >= 3, "the disk was full"
        rows = table_io.row_count(DeltaTable(table_io.table_uri(settings, table)))
        wanted = {GOLD_BARS_1M: 3, SILVER_CONTINUITY: 0}
        assert rows == wanted.get(table, 3 * len(LEFT))


def test_a_lease_is_to_be_had_on_a_full_disk(settings: Settings) -> None:
    with small_disk(Path(settings.lake) / "_leases", megabytes=1) as disk:
        with Lease(settings, ("bronze",), "the first"):
            pass
        disk.fill()
        with Lease(settings, ("bronze",), "x" * 5_000), pytest.raises(LeaseHeldError):
            Lease(settings, ("bronze",), "another").acquire()
        disk.free()
        with Lease(settings, ("bronze",), "the last"), pytest.raises(LeaseHeldError, match="by the last"):
            Lease(settings, ("bronze",), "another").acquire()


def append_in_pieces(settings: Settings, rows: pa.Table) -> None:
    with BulkAppend(settings, BRONZE_MESSAGES) as append:
        for start in range(0, rows.num_rows, 100):
            append.add(rows.slice(start, 100))
        append.commit()


def test_a_large_batch_that_does_not_fit_leaves_the_space_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups are written beside the reading, so the disk gets full in the middle of a file."""
    settings = empty_lake(tmp_path)
    noise = np.random.default_rng(1)
    with small_disk(Path(table_io.table_uri(settings, BRONZE_MESSAGES)), megabytes=2):
        rows = rows_of(BRONZE_MESSAGES, *(message_row(n, value_raw=noise.bytes(4_000)) for n in range(1_000)))
        monkeypatch.setattr(bulk_append, "ROW_GROUP_ROWS", 100)
        with pytest.raises(OSError, match="No space left"):
            append_in_pieces(settings, rows)
        assert not on_disk(settings, BRONZE_MESSAGES)
        append(settings, 1)
        assert offsets(settings) == [1]
