"""The newest version of an application is that of the log, and a process that commits reads no log to tell it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction

from lakehouse.lake import table_cache, table_io, transactions
from lakehouse.settings import Settings, load_settings
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import OPS_BATCHES, SILVER_TRADES
from tests.support.rows import batch_row, trade_row


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_settings(home=tmp_path)
    table_io.ensure_tables(made)
    return made


def commit(settings: Settings, number: int) -> int:
    with BulkAppend(settings, SILVER_TRADES) as append:
        rows = [trade_row(number)]
        append.add(pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_TRADES)))
        return append.commit_alone(Transaction("stream", number))


def known(settings: Settings, app_id: str = "stream") -> int | None:
    uri = table_io.table_uri(settings, SILVER_TRADES)
    return transactions.taken(uri, table_io.open_table(settings, SILVER_TRADES), app_id)


def test_own_commits_are_known_without_the_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known(settings) is None
    versions = [commit(settings, 7)]
    monkeypatch.setattr(DeltaTable, "transaction_version", refused)
    monkeypatch.setattr(transactions, "files_of", refused)
    for number in (8, 9):
        assert known(settings) == number - 1
        versions.append(commit(settings, number))
    assert (known(settings), versions) == (9, [1, 2, 3])
    assert table_io.open_table(settings, SILVER_TRADES).version() == 3


def test_others_commits_are_seen(settings: Settings) -> None:
    commit(settings, 1)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(2)], ("other", 5))
    assert (known(settings), known(settings, "other")) == (1, 5)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(3)], ("stream", 4))
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(4)], ("other", 6))
    assert (known(settings), known(settings, "other")) == (4, 6)


def test_many_commits_are_left_to_deltalake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(settings, 1)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(2)], ("stream", 2))
    for number in range(transactions.MOST_READ + 1):
        table_io.append_rows(settings, SILVER_TRADES, [trade_row(3 + number)])
    monkeypatch.setattr(transactions, "files_of", refused)
    assert known(settings) == 2


def test_a_commit_that_was_cleaned_away_is_left_to_deltalake(settings: Settings) -> None:
    commit(settings, 1)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(2)], ("stream", 2))
    table = table_io.open_table(settings, SILVER_TRADES)
    table.create_checkpoint()
    log = Path(table_io.table_uri(settings, SILVER_TRADES)) / "_delta_log"
    (log / f"{2:020}.json").unlink()
    table_cache.forget(table_io.table_uri(settings, SILVER_TRADES))  # opened anew, it is read from the checkpoint
    assert known(settings) == 2


def test_three_queries_of_one_ledger_read_only_each_others_rows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for query in ("bronze", "silver", "gold"):
        table_io.append_rows(settings, OPS_BATCHES, [batch_row(query, 0)], (query, 0))
    monkeypatch.setattr(DeltaTable, "transaction_version", refused)
    for number in (1, 1, 2):
        for query in ("bronze", "silver", "gold"):
            table_io.append_rows(settings, OPS_BATCHES, [batch_row(query, number)], (query, number))
    assert table_io.row_count(table_io.open_table(settings, OPS_BATCHES)) == 9


def refused(*_: object) -> None:
    raise AssertionError("found a read of the log; expected none")
