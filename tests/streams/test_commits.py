"""A commit that stands keeps its files, whatever its error says; one that does not stand leaves none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from lakehouse.lake import table_io, table_log
from lakehouse.settings import Settings
from lakehouse.streams import bulk_append, silver_commits
from lakehouse.streams.log_retention import write_checkpoint
from lakehouse.streams.unfinished import Unfinished, begin, unfinished
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES, Table
from tests.support.commits import append, broken, in_log, offsets, on_disk, rows_of
from tests.support.rows import batch_row, empty_lake, message_row, trade_row


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


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
    silver_commits.append_trades(rows_of(SILVER_TRADES, trade_row(1)), settings, 0)
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
        silver_commits.append_trades(rows_of(table, trade_row(1)), settings, 2)
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
