"""Results made of rows while they are written: of whole files, once, within a bound, the same as of the file."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import Transaction
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import table_io
from lakehouse.streams import batch_files, bulk_append
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.handover import Handover, Made
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.rows import NOON_US, empty_lake, message_row

DAY = 86_400_000_000
COLUMNS = pa.schema([("a", pa.int64())])


def rows(*numbers: int) -> pa.Table:
    return pa.table({"a": pa.array(numbers, pa.int32()), "b": pa.array(numbers, pa.int64())})


def doubled(chunk: pa.Table) -> Made:
    """The result that the reading layer makes of a chunk."""
    assert chunk.schema == COLUMNS
    return (pa.table({"twice": pc.multiply(chunk.column("a"), 2)}),)


def chunks(made: list[Future[Made]] | None) -> list[list[int]] | None:
    if made is None:
        return None
    return [[int(str(value)) // 2 for value in future.result()[0].column("twice")] for future in made]


def numbers(made: list[Future[Made]] | None) -> list[int] | None:
    found = chunks(made)
    return None if found is None else [number for chunk in found for number in chunk]


def test_a_file_is_handed_over_once_and_only_where_it_is_expected() -> None:
    handover = Handover()
    handover.put("lake/t", "x", rows(1))
    assert handover.take("lake/t", "x") is None
    handover.expect("lake/t", COLUMNS, doubled)
    handover.put("lake/t", "x", rows(1, 2))
    handover.put("lake/t", "y", rows(3))
    handover.put("lake/t", "x", rows(4))
    handover.put("lake/other", "x", rows(5))
    assert handover.take("lake/other", "x") is None
    handover.written("lake/other", "x")
    assert numbers(handover.take("lake/t", "x")) == [1, 2, 4]
    assert handover.take("lake/t", "x") is None
    handover.written("lake/t", "y")
    assert numbers(handover.take("lake/t", "y")) == [3]


def test_work_begins_with_a_chunk_and_not_only_when_it_is_asked_for() -> None:
    handover = Handover(chunk_rows=3)
    seen: list[int] = []
    begun = threading.Event()

    def work(chunk: pa.Table) -> Made:
        seen.append(chunk.num_rows)
        begun.set()
        return doubled(chunk)

    handover.expect("t", COLUMNS, work)
    handover.put("t", "x", rows(1, 2))
    assert not begun.wait(0.05)
    handover.put("t", "x", rows(3, 4))
    assert begun.wait(10)
    handover.put("t", "x", rows(*range(5, 12)))
    handover.written("t", "x")
    assert chunks(handover.take("t", "x")) == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]]
    assert sorted(seen) == [2, 3, 3, 3]  # two threads: chunks are made beside each other, in any order


def test_an_error_is_raised_where_the_results_are_taken() -> None:
    def work(chunk: pa.Table) -> Made:
        raise ValueError(f"{chunk.num_rows} rows")

    handover = Handover()
    handover.expect("t", COLUMNS, work)
    handover.put("t", "x", rows(1, 2))
    made = handover.take("t", "x")
    assert made is not None
    with pytest.raises(ValueError, match="2 rows"):
        made[0].result()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans()), max_size=40), st.integers(1, 5))
def test_never_a_part_of_a_file_and_never_beyond_the_bound(puts: list[tuple[str, int, bool]], chunk_rows: int) -> None:
    """Files are written under names of their own, so one that was taken does not come again."""
    handover = Handover(most_bytes=8 * 8, chunk_rows=chunk_rows)
    handover.expect("t", COLUMNS, doubled)
    written: dict[str, list[int]] = {}
    generation = dict.fromkeys("abc", 0)
    for name, count, take in puts:
        path = f"{name}{generation[name]}"
        new = list(range(len(written.get(path, [])), len(written.get(path, [])) + count))
        written.setdefault(path, []).extend(new)
        handover.put("t", path, rows(*new))
        assert handover._bytes <= 8 * 8
        if take:
            handover.written("t", path)
            found = numbers(handover.take("t", path))
            assert found is None or found == written[path]
            generation[name] += 1
    for path in written:
        handover.take("t", path)
    assert handover._bytes == 0
    assert not handover._given_up


def test_the_newest_file_survives_where_it_fits() -> None:
    handover = Handover(most_bytes=4 * 4)  # as they come they are of four bytes each
    handover.expect("t", COLUMNS, doubled)
    handover.put("t", "old", rows(1, 2, 3))
    handover.put("t", "new", rows(4, 5))
    assert handover.take("t", "old") is None
    assert numbers(handover.take("t", "new")) == [4, 5]
    handover.put("t", "large", rows(*range(5)))
    handover.put("t", "large", rows(6))
    assert handover.take("t", "large") is None


def test_nothing_is_kept_of_a_table_that_nobody_reads_any_more() -> None:
    handover = Handover(most_bytes=4 * 4)
    for table in ("t", "u"):
        handover.expect(table, COLUMNS, doubled)
    handover.put("t", "large", rows(*range(5)))
    handover.put("t", "x", rows(1))
    handover.put("u", "x", rows(2))
    handover.dismiss("t")
    handover.put("t", "y", rows(3))
    handover.written("t", "x")
    assert handover.take("t", "x") is None
    assert handover.take("t", "y") is None
    assert not handover._given_up
    assert numbers(handover.take("u", "x")) == [2]
    assert handover._bytes == 0


def test_what_is_made_counts_in_place_of_the_rows() -> None:
    handover = Handover(most_bytes=4 * 10, chunk_rows=2)
    handover.expect("t", COLUMNS, lambda chunk: (pa.concat_tables([chunk] * 9),))
    handover.put("t", "x", rows(1, 2))
    deadline = time.monotonic() + 10
    while ("t", "x") not in handover._given_up and time.monotonic() < deadline:
        time.sleep(0.01)
    assert handover._bytes == 0
    assert handover.take("t", "x") is None


def test_a_batch_reads_the_same_from_memory_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = empty_lake(tmp_path)
    columns = ("topic", "partition", "offset", "ts_kafka", "value_raw", "key", "ingest_date")
    handover = Handover(chunk_rows=4)
    for module in (bulk_append, batch_files):
        monkeypatch.setattr(module, "HANDOVER", handover)
    monkeypatch.setattr(batch_files, "CHUNK_ROWS", 4)
    asked: list[int] = []

    def work(chunk: pa.Table) -> Made:
        asked.append(chunk.num_rows)
        return (chunk,)

    batch_files.expect(settings, BRONZE_MESSAGES, columns, work)
    messages = [
        message_row(number, topic=("a", "b")[number % 3 == 0], at=NOON_US + DAY * (number % 2), key=None)
        for number in range(23)
    ]
    with BulkAppend(settings, BRONZE_MESSAGES) as append:
        for start in range(0, 23, 5):
            piece = messages[start : start + 5]
            append.add(pa.Table.from_pylist(piece, schema=table_io.arrow_schema(BRONZE_MESSAGES)))
        append.commit(Transaction("test", 1))
    actions = pa.table(table_io.open_table(settings, BRONZE_MESSAGES).get_add_actions())
    paths = sorted(str(path) for path in actions.column("path"))
    assert len(paths) == 4
    kept = [made for _, (made,) in batch_files.made_of(settings, BRONZE_MESSAGES, paths, columns, work)]
    assert not handover._files
    assert len(asked) == len(kept)  # all of it by those that wrote
    numbered = list(batch_files.made_of(settings, BRONZE_MESSAGES, paths, columns, work))
    read = [made for _, (made,) in numbered]
    assert len(asked) == 2 * len(kept)
    assert {chunk.schema for chunk in kept} == {chunk.schema for chunk in read}
    assert all(len(set(chunk.column("topic").to_pylist())) == 1 for chunk in kept)  # a chunk is of one file
    for number, (chunk,) in numbered:
        assert all(f"topic={topic}/" in paths[number] for topic in chunk.column("topic").unique().to_pylist())
    assert [number for number, _ in numbered] == sorted(number for number, _ in numbered)
    assert {number for number, _ in numbered} == set(range(len(paths)))
    assert pa.concat_tables(kept).equals(pa.concat_tables(read))
