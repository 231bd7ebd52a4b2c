"""A batch's files, read as Arrow past the JVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.lake import table_io
from lakehouse.streams import batch_files
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES
from tests.support.appended import append
from tests.support.rows import NOON_US, empty_lake, message_row, trade_row, utc

DAY = 86_400_000_000


def test_rows_come_back_with_partitions_and_nulls(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "a home with spaces, 100% and é")
    rows = [
        message_row(1),
        message_row(2, key=None, value_raw=None),
        message_row(3, value_raw=b"\x00\xff", partition=3),
        message_row(4, at=NOON_US + DAY),
        message_row(5, topic="crypto.feed_events", key=b""),
    ]
    paths = append(settings, BRONZE_MESSAGES, rows)
    assert len(paths) == 3
    columns = ("topic", "partition", "offset", "ts_kafka", "value_raw", "key", "ingest_date")
    chunks = list(batch_files.read_chunks(settings, BRONZE_MESSAGES, paths, columns))
    schema = table_io.arrow_schema(BRONZE_MESSAGES)
    assert [chunk.schema.names for chunk in chunks] == [list(columns)] * 3
    assert all(chunk.schema.field(name).equals(schema.field(name)) for chunk in chunks for name in columns)
    found = [row for chunk in chunks for row in chunk.to_pylist()]
    assert sorted(found, key=lambda row: int(row["offset"])) == [{name: row[name] for name in columns} for row in rows]


def test_only_the_files_of_the_batch_in_its_order(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    versions = [append(settings, SILVER_TRADES, [trade_row(number)]) for number in range(4)]
    wanted = [*versions[3], *versions[1]]
    chunks = batch_files.read_chunks(settings, SILVER_TRADES, wanted, ("trade_id",))
    assert [chunk.column("trade_id").to_pylist() for chunk in chunks] == [[3], [1]]
    assert list(batch_files.read_chunks(settings, SILVER_TRADES, [], ("trade_id",))) == []


def test_a_large_file_comes_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 100)
    settings = empty_lake(tmp_path)
    paths = append(settings, SILVER_TRADES, [trade_row(number) for number in range(250)])
    chunks = list(batch_files.read_chunks(settings, SILVER_TRADES, paths, ("event_date", "trade_id")))
    assert [chunk.num_rows for chunk in chunks] == [100, 100, 50]
    assert [number for chunk in chunks for number in chunk.column("trade_id").to_pylist()] == list(range(250))
    assert {day for chunk in chunks for day in chunk.column("event_date").to_pylist()} == {utc(NOON_US).date()}
