"""Rows that one layer hands to the next in memory: whole files, once, within a bound, the same as are in the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import Transaction
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import lake
from lakehouse.streams import batch_files, bulk_append
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.handover import Handover
from lakehouse.tables import BRONZE_MESSAGES
from tests.rows import NOON_US, empty_lake, message_row

DAY = 86_400_000_000


def rows(*numbers: int) -> pa.Table:
    return pa.table({"a": pa.array(numbers, pa.int64()), "b": pa.array(numbers, pa.int64())})


def numbers(found: list[pa.Table] | None) -> list[int] | None:
    return None if found is None else [int(str(value)) for table in found for value in table.column("a")]


def test_a_file_is_handed_over_once_and_only_where_it_is_expected() -> None:
    handover = Handover()
    handover.put("lake/t", "x", rows(1))
    assert handover.take("lake/t", "x") is None
    handover.expect("lake/t", ("a",))
    handover.put("lake/t", "x", rows(1, 2))
    handover.put("lake/t", "y", rows(3))
    handover.put("lake/t", "x", rows(4))
    handover.put("lake/other", "x", rows(5))
    assert handover.take("lake/other", "x") is None
    found = handover.take("lake/t", "x")
    assert numbers(found) == [1, 2, 4]
    assert [table.column_names for table in found or ()] == [["a"], ["a"]]
    assert handover.take("lake/t", "x") is None
    assert numbers(handover.take("lake/t", "y")) == [3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans()), max_size=40))
def test_never_a_part_of_a_file_and_never_beyond_the_bound(puts: list[tuple[str, int, bool]]) -> None:
    """Files are written under names of their own, so one that was taken does not come again."""
    handover = Handover(most_bytes=8 * 8)
    handover.expect("t", ("a",))
    written: dict[str, list[int]] = {}
    generation = dict.fromkeys("abc", 0)
    for name, count, take in puts:
        path = f"{name}{generation[name]}"
        new = list(range(len(written.get(path, [])), len(written.get(path, [])) + count))
        written.setdefault(path, []).extend(new)
        handover.put("t", path, rows(*new))
        assert handover._bytes <= 8 * 8
        if take:
            found = numbers(handover.take("t", path))
            assert found is None or found == written[path]
            generation[name] += 1
    for path in written:
        handover.take("t", path)
    assert handover._bytes == 0
    assert not handover._given_up


def test_the_newest_file_survives_where_it_fits() -> None:
    handover = Handover(most_bytes=8 * 4)
    handover.expect("t", ("a",))
    handover.put("t", "old", rows(1, 2, 3))
    handover.put("t", "new", rows(4, 5))
    assert handover.take("t", "old") is None
    assert numbers(handover.take("t", "new")) == [4, 5]
    handover.put("t", "large", rows(*range(5)))
    handover.put("t", "large", rows(6))
    assert handover.take("t", "large") is None


def test_a_batch_reads_the_same_from_memory_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = empty_lake(tmp_path)
    columns = ("topic", "partition", "offset", "ts_kafka", "value_raw", "key", "ingest_date")
    handover = Handover()
    for module in (bulk_append, batch_files):
        monkeypatch.setattr(module, "HANDOVER", handover)
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 4)
    handover.expect(lake.table_uri(settings, BRONZE_MESSAGES), columns)
    messages = [
        message_row(number, topic=("a", "b")[number % 3 == 0], at=NOON_US + DAY * (number % 2), key=None)
        for number in range(23)
    ]
    with BulkAppend(settings, BRONZE_MESSAGES) as append:
        for start in range(0, 23, 5):
            piece = messages[start : start + 5]
            append.add(pa.Table.from_pylist(piece, schema=lake.arrow_schema(BRONZE_MESSAGES)))
        append.commit(Transaction("test", 1))
    actions = pa.table(lake.open_table(settings, BRONZE_MESSAGES).get_add_actions())
    paths = sorted(str(path) for path in actions.column("path"))
    assert len(paths) == 4
    kept = list(batch_files.read_chunks(settings, BRONZE_MESSAGES, paths, columns))
    assert not handover._rows
    read = list(batch_files.read_chunks(settings, BRONZE_MESSAGES, paths, columns))
    assert {chunk.schema for chunk in kept} == {chunk.schema for chunk in read}
    assert all(len(set(chunk.column("topic").to_pylist())) == 1 for chunk in kept)  # a chunk is of one file
    assert pa.concat_tables(kept).equals(pa.concat_tables(read))
