"""Commits to a disk that gets full at any step: nothing is lost, nothing is doubled, no file is left over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from lakehouse.errors import LeaseHeldError, RetriableError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.settings import Settings
from lakehouse.streams import data_files, silver_commits
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.compaction import UPKEEP_ERRORS
from lakehouse.streams.log_retention import write_checkpoint
from lakehouse.streams.replacement import replace
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES, Table
from lakehouse.transforms.row_keys import RowKeys
from tests.support.commits import append, in_log, offsets, on_disk, rows_of
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, message_row, trade_row
from tests.support.small_disk import small_disk

#: Bytes that a disk that gets full has left: nothing, then room for one step more and more.
LEFT = (0, 4_096, 8_192, 12_288, 16_384, 24_576, 32_768, 49_152, 65_536)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def _bronze(settings: Settings, number: int) -> None:
    append(settings, number)


def _silver(settings: Settings, number: int) -> None:
    known = table_io.open_table(settings, SILVER_TRADES).version()
    silver_commits.append_trades(rows_of(SILVER_TRADES, trade_row(number)), settings, known)


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
        monkeypatch.setattr(data_files, "ROW_GROUP_ROWS", 100)
        with pytest.raises(OSError, match="No space left"):
            append_in_pieces(settings, rows)
        assert not on_disk(settings, BRONZE_MESSAGES)
        append(settings, 1)
        assert offsets(settings) == [1]
