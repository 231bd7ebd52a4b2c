"""Files that a table no longer has go from the disk, unless a recent batch, a stream or a query may still read them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import table_io
from lakehouse.lake.lease import Turn
from lakehouse.settings import Settings
from lakehouse.streams import file_retention, gold, upkeep
from lakehouse.streams.compaction import compact
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import GOLD_SPREADS_1M, LAYERS, OPS_BATCHES, Table
from tests.support.rows import NOON_US, batch_row, empty_lake, utc

NOW_US = round(dt.datetime.now(dt.UTC).timestamp() * 1_000_000)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake where a file may go in the hour in which its table has lost it."""
    monkeypatch.setattr(file_retention, "KEPT_HOURS", 0)
    return empty_lake(tmp_path)


def spread_row(minute: int) -> dict[str, Any]:
    at = utc(NOON_US + minute * 60_000_000)
    names = {"base": "BTC", "quote": "USDT", "bar_start": at, "venues": 0, "revision": 1}
    return dict.fromkeys(GOLD_SPREADS_1M.column_names) | names | {"updated_at": at, "bar_date": at.date()}


def on_disk(settings: Settings, table: Table) -> int:
    return len(
        [file for file in Path(table_io.table_uri(settings, table)).rglob("*.parquet") if "_delta" not in str(file)]
    )


def joined(settings: Settings, table: Table, rows: list[dict[str, Any]]) -> None:
    """A file for each row, and then one for all: so many files that the table no longer has."""
    for row in rows:
        table_io.append_rows(settings, table, [row])
    compact(settings, table, 1)
    assert len(table_io.open_table(settings, table).file_uris()) == 1
    assert on_disk(settings, table) == len(rows) + 1


def test_files_that_nobody_reads_go(settings: Settings) -> None:
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    before = table_io.sql(settings, "SELECT * FROM t ORDER BY bar_start", t=GOLD_SPREADS_1M)
    Upkeep(settings, LAYERS).do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 1
    assert table_io.sql(settings, "SELECT * FROM t ORDER BY bar_start", t=GOLD_SPREADS_1M).equals(before)


def test_files_of_the_last_hour_stay(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_retention, "KEPT_HOURS", 1)
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    Upkeep(settings, LAYERS).do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 4


def test_files_since_a_recent_batch_stay(settings: Settings) -> None:
    """However long ago it was: in a quiet market the newest batch of Gold may be of yesterday."""
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("gold", 0, NOW_US - 86_400_000_000)])
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("bronze", 0, NOW_US)])
    Upkeep(settings, LAYERS).do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 4


def test_it_is_done_once_an_hour(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Upkeep(settings, LAYERS)
    ours.do()
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    ours.do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 4
    monkeypatch.setattr(upkeep, "DELETE_SECONDS", 0.0)
    Upkeep(settings, LAYERS).do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 1


def test_a_run_does_it_for_the_tables_of_its_layers(settings: Settings) -> None:
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    Upkeep(settings, ("bronze", "silver")).do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 4


def test_while_gold_is_written_it_waits_for_the_next_time(settings: Settings) -> None:
    """A commit of it between a batch's look at a table and the batch's commit would let the batch fail."""
    joined(settings, GOLD_SPREADS_1M, [spread_row(minute) for minute in range(3)])
    ours = Upkeep(settings, LAYERS)
    with Turn(settings, "gold"):
        ours.do()
        assert on_disk(settings, GOLD_SPREADS_1M) == 4
    ours.do()
    assert on_disk(settings, GOLD_SPREADS_1M) == 1
    turn = Turn(settings, "gold")
    assert turn.take(wait=False)
    turn.give()


def test_files_of_gold_that_cannot_be_joined_do_not_fail_its_batch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Table] = []

    def full(settings: Settings, table: Table) -> None:
        asked.append(table)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gold, "compact", full)
    knowledge = gold.Knowledge(settings)
    knowledge.join_files()
    knowledge.join_files()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the files of Gold's days are not joined: OSError: [Errno 28] No space left on device")
    assert len(asked) == 1, "tried again after a minute, not with each batch"
    monkeypatch.setattr(gold, "JOIN_AGAIN_SECONDS", 0.0)
    knowledge = gold.Knowledge(settings)
    knowledge.join_files()
    knowledge.join_files()
    assert len(asked) == 3
