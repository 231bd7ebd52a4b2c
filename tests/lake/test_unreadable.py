"""Data files that are gone or damaged, on real lakes: one error of ours, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.continuity.known_ids import ranges_between
from lakehouse.errors import RetriableError, TerminalError
from lakehouse.lake import table_io, unreadable
from lakehouse.lake.unreadable import UnreadableVersionError
from lakehouse.settings import Settings
from lakehouse.sinks.gold_changes import changes_since, read
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES, Table
from tests.support.damage import data_files, lose
from tests.support.rows import NOON_US, bar_row, empty_lake, trade_row


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    settings = empty_lake(tmp_path)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(number) for number in range(1, 500)])
    table_io.append_rows(settings, GOLD_BARS_1M, [bar_row(NOON_US)])
    return settings


def _sql(settings: Settings, table: Table) -> Any:
    return table_io.sql(settings, "SELECT * FROM t", t=table)


def _batches(settings: Settings, table: Table) -> Any:
    return list(table_io.sql_batches(settings, "SELECT * FROM t ORDER BY 1", t=table))


@pytest.mark.parametrize("read_all", [_sql, _batches])
def test_a_file_that_is_gone_is_named(lake: Settings, read_all: Callable[[Settings, Table], Any]) -> None:
    [file] = lose(lake, SILVER_TRADES)
    with pytest.raises(UnreadableVersionError) as caught:
        read_all(lake, SILVER_TRADES)
    assert isinstance(caught.value, TerminalError)
    assert str(caught.value) == (
        f"version 1 of silver/trades cannot be read ({file} is gone); expected a version whose log and files are still "
        "kept; read the newest; if this is it, it has lost data"
    )


@pytest.mark.parametrize("read_all", [_sql, _batches])
@pytest.mark.parametrize("damage", ["cut", "empty", "other", "inside"])
def test_a_damaged_file(lake: Settings, damage: str, read_all: Callable[[Settings, Table], Any]) -> None:
    [file] = data_files(lake, SILVER_TRADES)
    whole = file.read_bytes()
    inside = whole[:100] + bytes(one ^ 0x5A for one in whole[100:3_000]) + whole[3_000:]
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "other": b"x" * 999, "inside": inside}[damage])
    with pytest.raises(UnreadableVersionError, match=r"^version 1 of silver/trades cannot be read \(") as caught:
        read_all(lake, SILVER_TRADES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_table_with_the_lost_file_is_named(lake: Settings) -> None:
    lose(lake, GOLD_BARS_1M)
    with pytest.raises(UnreadableVersionError, match=r"^version 1 of gold/bars_1m cannot be read \(part-.* is gone\)"):
        table_io.sql(lake, "SELECT * FROM a JOIN b ON a.symbol = b.symbol", a=SILVER_TRADES, b=GOLD_BARS_1M)


@pytest.mark.parametrize("read_all", [table_io.sql, table_io.sql_batches])
def test_a_query_that_fails_by_itself_names_no_file(lake: Settings, read_all: Any) -> None:
    with pytest.raises(TerminalError, match=r"a query failed: .*Divide by zero") as caught:
        list(read_all(lake, "SELECT trade_id / (trade_id - trade_id) FROM t", t=SILVER_TRADES))
    assert not isinstance(caught.value, UnreadableVersionError)


def test_files_that_are_read_without_a_query(lake: Settings) -> None:
    """The sinks read Gold's changes so, and the ledger Silver's."""
    changes = changes_since(lake, GOLD_BARS_1M, None)
    assert changes is not None
    lose(lake, GOLD_BARS_1M)
    with pytest.raises(UnreadableVersionError, match=r"^version 1 of gold/bars_1m cannot be read \(part-.* is gone\)"):
        list(read(lake, changes))
    lose(lake, SILVER_TRADES)
    with pytest.raises(UnreadableVersionError, match=r"^version 1 of silver/trades cannot be read \(part-.* is gone\)"):
        ranges_between(lake, 0, 1)


@pytest.mark.parametrize(
    "error",
    [
        OSError("Generic S3 error: Error performing GET in 181s, after 10 retries: error sending request"),
        pa.ArrowInvalid(
            "External error: Parquet error: Failed to fetch metadata for file silver/trades/a.parquet: Object Store "
            "error: Generic MicrosoftAzure error: Server returned 503"
        ),
    ],
)
def test_an_object_store_that_does_not_answer_may_do_so_later(error: Exception) -> None:
    """The texts are object_store's. None runs here that fails."""
    found = unreadable.of_file(error, {"silver/trades": 3}, of_query=isinstance(error, pa.ArrowInvalid))
    assert isinstance(found, RetriableError)
    assert str(found).startswith("version 3 of silver/trades cannot be read now (")
