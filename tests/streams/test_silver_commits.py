"""Commits to Silver's tables: a row comes in once, whoever else commits; a rebuild's rows replace all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import AddAction

from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_files, silver_commits
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.data_files import DataFiles
from lakehouse.streams.silver_commits import APPENDS, OtherWriterError, merge_by_offset, replace_all
from lakehouse.tables import BRONZE_MESSAGES, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.support.rows import NOON_US, empty_lake, message_row, trade_row, utc

DAY_US = 86_400_000_000
Row = dict[str, Any]


def refused(offset: int, partition: int = 0, day: int = 0, topic: str = "crypto.trades") -> Row:
    """A row of silver/quarantine."""
    at = NOON_US + day * DAY_US
    where = {"kafka_topic": topic, "kafka_partition": partition, "kafka_offset": offset}
    empty = {"venue": None, "symbol": None, "trade_id": None, "key": None, "value_raw": b"junk"}
    row = {"rule": "not_json", "detail": "", "ts_kafka": utc(at), "ingest_date": utc(at).date()}
    return row | where | empty


def arrow(table: Table, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_io.arrow_schema(table))


def merge(settings: Settings, *rows: Row) -> None:
    merge_by_offset(arrow(SILVER_QUARANTINE, list(rows)), SILVER_QUARANTINE, settings)


def places(settings: Settings) -> list[tuple[Any, ...]]:
    query = "SELECT kafka_topic, kafka_partition, kafka_offset FROM t ORDER BY 1, 2, 3"
    return [tuple(row.values()) for row in table_io.sql(settings, query, t=SILVER_QUARANTINE).to_pylist()]


def version(settings: Settings, table: Table = SILVER_QUARANTINE) -> int:
    return table_io.open_table(settings, table).version()


def other_writer(settings: Settings, table: Table, rows: list[Row]) -> None:
    """Append as another process: what this thread has open does not move."""
    write_deltalake(table_io.table_uri(settings, table), arrow(table, rows), mode="append")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def test_only_rows_that_the_table_lacks_are_inserted(settings: Settings) -> None:
    first = [refused(1), refused(3, day=1), refused(3, partition=1), refused(1, topic="crypto.feed_events")]
    merge(settings, *first)
    assert (len(places(settings)), version(settings)) == (4, 1)
    merge(settings, *first)  # a batch that runs again
    merge(settings)
    assert (len(places(settings)), version(settings)) == (4, 1)
    merge(settings, *first[:2], refused(2), refused(4), refused(1, partition=1))
    topic = "crypto.trades"
    assert places(settings) == [
        ("crypto.feed_events", 0, 1),
        *[(topic, 0, offset) for offset in (1, 2, 3, 4)],
        *[(topic, 1, offset) for offset in (1, 3)],
    ]
    assert version(settings) == 2


def test_only_files_that_may_have_the_rows_are_read(settings: Settings) -> None:
    merge(settings, refused(1), refused(1, partition=9))
    merge(settings, refused(500))
    merge(settings, refused(2, day=1))
    uri = table_io.table_uri(settings, SILVER_QUARANTINE)
    (wanted,) = _files_with(settings, 500)
    for path in DeltaTable(uri).file_uris():
        if Path(path) != wanted:
            Path(path).unlink()  # whoever reads it fails
    merge(settings, refused(500), refused(501))
    assert len(_files_with(settings, 501)) == 1


def _files_with(settings: Settings, offset: int) -> list[Path]:
    uri = table_io.table_uri(settings, SILVER_QUARANTINE)
    actions = pa.table(DeltaTable(uri).get_add_actions(flatten=True)).to_pylist()
    return [Path(uri, one["path"]) for one in actions if one["max.kafka_offset"] == offset]


@pytest.mark.parametrize("theirs", [(1, 2), (2,), (7,)])
def test_another_writer_between_look_and_commit_doubles_nothing(
    settings: Settings, theirs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = BulkAppend.commit, list[int]()

    def commit(self: BulkAppend, *arguments: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            other_writer(settings, SILVER_QUARANTINE, [refused(offset) for offset in theirs])
        real(self, *arguments, **named)

    monkeypatch.setattr(BulkAppend, "commit", commit)
    merge(settings, refused(1), refused(2))
    assert [place[2] for place in places(settings)] == sorted({1, 2, *theirs})
    assert _unnamed(settings, SILVER_QUARANTINE) == []


def test_a_writer_that_is_always_slower_gives_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real, numbers = BulkAppend.commit, iter(range(100, 200))

    def commit(self: BulkAppend, *arguments: Any, **named: Any) -> None:
        other_writer(settings, SILVER_QUARANTINE, [refused(next(numbers))])
        real(self, *arguments, **named)

    monkeypatch.setattr(BulkAppend, "commit", commit)
    with pytest.raises(RetriableError, match="silver/quarantine took somebody else's commit"):
        merge(settings, refused(1))
    assert len(places(settings)) == silver_commits.MOST_MERGES
    assert _unnamed(settings, SILVER_QUARANTINE) == []


def _unnamed(settings: Settings, table: Table) -> list[Path]:
    """Data files that no version of the table names."""
    uri = table_io.table_uri(settings, table)
    named = {path for number in range(version(settings, table) + 1) for path in DeltaTable(uri, number).file_uris()}
    return [path for path in Path(uri).rglob("*.parquet") if str(path) not in named]


def staged(settings: Settings, rows: list[Row]) -> list[AddAction]:
    files = DataFiles(table_io.table_uri(settings, SILVER_TRADES), SILVER_TRADES)
    files.add(arrow(SILVER_TRADES, rows))
    actions = files.finish()
    files.close()
    return actions


def ids(settings: Settings) -> list[int]:
    found = table_io.sql(settings, "SELECT trade_id FROM t ORDER BY 1", t=SILVER_TRADES)
    return [row["trade_id"] for row in found.to_pylist()]


def test_new_files_replace_all_rows_in_one_commit(settings: Settings) -> None:
    for number in (1, 2, 3):
        silver_commits.append_trades(arrow(SILVER_TRADES, [trade_row(number)]), settings, number - 1)
    replace_all(staged(settings, [trade_row(2), trade_row(9, at=NOON_US + DAY_US)]), SILVER_TRADES, settings)
    table = table_io.open_table(settings, SILVER_TRADES)
    assert (ids(settings), table.version(), table.transaction_version(APPENDS)) == ([2, 9], 4, 4)
    assert table_io.open_table(settings, SILVER_TRADES, 3).to_pyarrow_table().num_rows == 3
    replace_all([], SILVER_TRADES, settings)
    assert (ids(settings), version(settings, SILVER_TRADES)) == ([], 5)


def test_rows_are_not_replaced_over_somebody_elses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    files, real = staged(settings, [trade_row(2)]), BulkAppend.commit

    def commit(self: BulkAppend, *arguments: Any, **named: Any) -> None:
        other_writer(settings, SILVER_TRADES, [trade_row(1)])
        real(self, *arguments, **named)

    monkeypatch.setattr(BulkAppend, "commit", commit)
    with pytest.raises(OtherWriterError, match="silver/trades took somebody else's commit"):
        replace_all(files, SILVER_TRADES, settings)
    assert ids(settings) == [1]
    assert _unnamed(settings, SILVER_TRADES) == []


def test_messages_are_found_by_their_places(settings: Settings) -> None:
    uri = table_io.table_uri(settings, BRONZE_MESSAGES)
    rows = [message_row(n, partition=n % 3, value_raw=b"%d" % n, at=NOON_US + n % 2 * DAY_US) for n in range(50)]
    table_io.append_rows(settings, BRONZE_MESSAGES, [*rows, message_row(4, topic="other", value_raw=b"not this")])
    paths = [str(Path(path).relative_to(uri)) for path in DeltaTable(uri).file_uris()]
    wanted = [("crypto.trades", 1, 4), ("crypto.trades", 2, 5), ("crypto.trades", 0, 5), ("crypto.trades", 1, 49)]
    names = ("kafka_topic", "kafka_partition", "kafka_offset")
    schema = pa.schema([table_io.arrow_schema(SILVER_TRADES).field(name) for name in names])
    asked = pa.Table.from_pylist([dict(zip(names, one, strict=True)) for one in wanted], schema=schema)
    found = batch_files.messages_at(settings, paths, asked, BRONZE_MESSAGES.column_names)
    assert found.schema == table_io.arrow_schema(BRONZE_MESSAGES)
    assert sorted(row["value_raw"] for row in found.to_pylist()) == [b"4", b"49", b"5"]
    assert batch_files.messages_at(settings, paths, asked.slice(0, 0), ["topic", "partition", "offset"]).num_rows == 0
