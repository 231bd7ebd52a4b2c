"""Many rows in one commit: the same rows, files and statistics as deltalake's own append, or nothing at all."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import bulk_append, data_files
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES, Table
from tests.support.rows import NOON_US, empty_lake, message_row, trade_row

DAY = 86_400_000_000
Row = dict[str, Any]

MESSAGES: list[Row] = [
    message_row(1),
    message_row(2, key=None, value_raw=None),
    message_row(3, value_raw=b"\x00\xff", partition=3),
    message_row(4, at=NOON_US + DAY + 123_456),
    message_row(5, topic="crypto.feed_events", key=b""),
    message_row(6, at=NOON_US - DAY),
]
TRADES: list[Row] = [
    trade_row(7, at=NOON_US + 999_999, price=Decimal("0.000000000000000001")),
    trade_row(8, at=NOON_US + DAY, size=Decimal(999999999999999)),
    trade_row(9, at=NOON_US + 1),
]


def rows_of(table: Table, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_io.arrow_schema(table))


def append(settings: Settings, table: Table, *pieces: list[Row], version: int = 1) -> None:
    with BulkAppend(settings, table) as append:
        for piece in pieces:
            append.add(rows_of(table, piece))
        append.commit(Transaction("test", version))


def content(settings: Settings, table: Table) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in table.column_names)
    keys = ", ".join(f'"{name}"' for name in table.key)
    return table_io.sql(settings, f"SELECT {names} FROM t ORDER BY {keys}", t=table)


def parquet_files(settings: Settings, table: Table) -> set[Path]:
    return set(Path(table_io.table_uri(settings, table)).rglob("*.parquet"))


def adds(settings: Settings, table: Table) -> list[dict[str, Any]]:
    log = Path(table_io.table_uri(settings, table)) / "_delta_log" / f"{1:020}.json"
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return sorted(
        (one["add"] for one in actions if "add" in one), key=lambda add: sorted(add["partitionValues"].items())
    )


@pytest.mark.parametrize(("table", "rows"), [(BRONZE_MESSAGES, MESSAGES), (SILVER_TRADES, TRADES)])
def test_the_same_as_deltalakes_own(tmp_path: Path, table: Table, rows: list[Row]) -> None:
    ours, theirs = empty_lake(tmp_path / "ours, 100% and é"), empty_lake(tmp_path / "theirs")
    append(ours, table, rows[:2], rows[2:])
    table_io.append_rows(theirs, table, rows)
    assert content(ours, table).equals(content(theirs, table))
    assert content(ours, table).num_rows == len(rows)
    for mine, other in zip(adds(ours, table), adds(theirs, table), strict=True):
        assert mine["partitionValues"] == other["partitionValues"]
        assert mine["size"] == (Path(table_io.table_uri(ours, table)) / mine["path"]).stat().st_size
        stats, expected = (json.loads(one["stats"].replace(".000Z", "Z")) for one in (mine, other))
        assert stats["numRecords"] == expected["numRecords"]
        for kind in ("minValues", "nullCount"):
            assert stats[kind] == {name: expected[kind][name] for name in stats[kind]}
        missing = expected["nullCount"].keys() - stats["nullCount"].keys()
        assert missing <= {"key", "value_raw", "price", "size"}  # which nobody looks for by their bounds
    assert table_io.row_count(table_io.open_table(ours, table)) == len(rows)
    assert table_io.open_table(ours, table).transaction_version("test") == 1


def test_an_upper_bound_of_times_is_not_below_the_newest(tmp_path: Path) -> None:
    """The log has milliseconds: cut off, a bound would hide the microseconds after it."""
    settings = empty_lake(tmp_path)
    append(settings, SILVER_TRADES, TRADES[:1])
    (add,) = adds(settings, SILVER_TRADES)
    stats = json.loads(add["stats"])
    second = TRADES[0]["ts_event"].strftime("%Y-%m-%dT%H:%M")
    assert stats["minValues"]["ts_event"] == f"{second}:00.999Z"
    assert stats["maxValues"]["ts_event"] == f"{second}:01.000Z"


def test_nothing_is_left_of_rows_that_are_not_committed(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    with BulkAppend(settings, BRONZE_MESSAGES) as rows:
        rows.add(rows_of(BRONZE_MESSAGES, MESSAGES))
        assert len(parquet_files(settings, BRONZE_MESSAGES)) == 4
    assert not parquet_files(settings, BRONZE_MESSAGES)
    assert table_io.open_table(settings, BRONZE_MESSAGES).version() == 0


def test_who_comes_second_adds_nothing(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    with BulkAppend(settings, SILVER_TRADES) as second:
        second.add(rows_of(SILVER_TRADES, TRADES[:2]))
        theirs = DeltaTable(table_io.table_uri(settings, SILVER_TRADES))
        write_deltalake(theirs, rows_of(SILVER_TRADES, TRADES[2:]), mode="append")
        with pytest.raises(CommitFailedError):
            second.commit(Transaction("test", 1))
    assert content(settings, SILVER_TRADES).column("trade_id").to_pylist() == [9]
    assert len(parquet_files(settings, SILVER_TRADES)) == 1


@given(cuts=st.lists(st.integers(0, 40), max_size=6), group=st.integers(1, 50))
@hypothesis_settings(max_examples=15, deadline=None)
def test_rows_keep_their_order_however_they_come(tmp_path_factory: Any, cuts: list[int], group: int) -> None:
    settings = empty_lake(tmp_path_factory.mktemp("lake"))
    rows = [message_row(number, at=NOON_US + DAY * (number % 2)) for number in range(40)]
    bounds = [0, *sorted(cuts), 40]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "ROW_GROUP_ROWS", group)
        append(settings, BRONZE_MESSAGES, *(rows[a:b] for a, b in pairwise(bounds)))
    found = [
        pq.ParquetFile(file).read().column("offset").to_pylist() for file in parquet_files(settings, BRONZE_MESSAGES)
    ]
    assert sorted(found) == [list(range(0, 40, 2)), list(range(1, 40, 2))]
    assert table_io.row_count(table_io.open_table(settings, BRONZE_MESSAGES)) == 40


def times(settings: Settings) -> list[int]:
    """The times of the table's files, in the order of the log's commits and of the entries of each."""
    uri, found = Path(table_io.table_uri(settings, BRONZE_MESSAGES)), []
    for commit in sorted((uri / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        found += [action["add"]["modificationTime"] for action in actions if "add" in action]
    return found


def test_in_order_the_times_of_files_ascend_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, clock = empty_lake(tmp_path), iter([5_000, 900, 900, 900, 7_000, 1])
    offset = 0
    for _ in range(6):
        at = next(clock) * 1_000_000
        if at == 1_000_000:
            bulk_append._NEWEST.clear()  # as another process
        with BulkAppend(settings, BRONZE_MESSAGES, in_order=True) as append:
            for topic in ("b", "a"):
                rows = [message_row(offset, topic=topic), message_row(offset + 1, topic=topic, at=NOON_US + DAY)]
                append.add(rows_of(BRONZE_MESSAGES, rows))
            offset += 2
            with monkeypatch.context() as patch:
                patch.setattr(time, "time_ns", partial(int, at))
                append.commit()
    found = times(settings)
    assert len(found) == 24
    assert found == sorted(set(found))
    assert (found[0], found[16]) == (5_000, 7_000)  # the clock's, where that is later
