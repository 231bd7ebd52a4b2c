"""Units of messages and the work that lands them, run here; and how errors of a work come back."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from deltalake import Transaction
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange
from lakehouse.errors import RetriableError, TerminalError
from lakehouse.lake import table_io
from lakehouse.runtime.code_version import code_version
from lakehouse.settings import Settings
from lakehouse.streams import landing, tasks
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.landing import LandUnit
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.messages import send, trade
from tests.support.rows import empty_lake

RANGES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 50), st.integers(0, 40)).map(
        lambda one: OffsetRange(one[0], one[1], one[2], one[2] + one[3])
    )
)


@given(RANGES, st.integers(1, 30))
def test_units_hold_every_message_once_and_in_order(ranges: list[OffsetRange], most: int) -> None:
    groups = list(landing._groups(ranges, most))
    asked = [(one.topic, one.partition, offset) for one in ranges for offset in range(one.first, one.end)]
    given_out = [(o.topic, o.partition, offset) for group in groups for o in group for offset in range(o.first, o.end)]
    assert given_out == asked
    sizes = [sum(one.end - one.first for one in group) for group in groups]
    assert all(0 < size <= most for size in sizes)
    parts = [part for group in groups for part in group]
    assert all(one in parts for one in ranges if 0 < one.end - one.first <= most)  # not divided
    if 0 < sum(sizes) <= most:
        assert len(groups) == 1


def test_a_unit_of_a_large_batch_has_one_block_of_a_topics_partitions() -> None:
    def blocks(sizes: Sequence[int]) -> list[list[tuple[str, int]]]:
        ranges = [OffsetRange("t", partition, 5, 5 + size) for partition, size in enumerate(sizes)]
        groups = landing._groups([OffsetRange("e", 0, 0, 1), *ranges, OffsetRange("u", 0, 0, 1)], 100)
        return [[(one.topic, one.partition) for one in group] for group in groups]

    small = blocks([40, 30, 20, 7])
    assert small == [[("e", 0), ("t", 0), ("t", 1), ("t", 2), ("t", 3), ("u", 0)]]
    large = blocks([60, 30, 20, 250])
    assert large[0] == [("e", 0), ("t", 0)]
    assert large[1:3] == [[("t", 1)], [("t", 2)]]
    assert large[3:] == [[("t", 3)], [("t", 3)], [("t", 3), ("u", 0)]]
    # With many partitions a block has several; it is the same for other sizes of theirs.
    for sizes in ([9] * 30, [1, *[7] * 28, 40]):
        assert {tuple(at for topic, at in group if topic == "t") for group in blocks(sizes)} == {
            tuple(range(first, first + 3)) for first in range(0, 30, 3)
        }


def parquet_files(settings: Settings) -> list[Path]:
    return sorted(Path(table_io.table_uri(settings, BRONZE_MESSAGES)).rglob("*.parquet"))


@pytest.mark.kafka
def test_landed_files_are_rows_only_after_the_commit(kafka_settings: Settings) -> None:
    settings = kafka_settings
    table_io.ensure_tables(settings)
    send(settings, settings.topic_trades, [trade(trade_id=number, symbol="BTC/USDT") for number in range(300)])
    partition, end = next((p, end) for p, end in ends(settings) if end)
    units = landing.units_of(settings, [OffsetRange(settings.topic_trades, partition, 0, end)], most=120)
    assert len(units) == -(-end // 120)
    landed = [landing.land(pickle.loads(pickle.dumps(unit))) for unit in units]
    assert len(parquet_files(settings)) == len(units)
    assert table_io.row_count(table_io.open_table(settings, BRONZE_MESSAGES)) == 0
    with BulkAppend(settings, BRONZE_MESSAGES) as append:
        append.adopt([file for one in pickle.loads(pickle.dumps(landed)) for file in one.files])
        append.commit(Transaction("test", 1))
    offsets = (
        table_io.sql(settings, 'SELECT "offset" AS o FROM t ORDER BY 1', t=BRONZE_MESSAGES).column("o").to_pylist()
    )
    assert offsets == list(range(end))


def ends(settings: Settings) -> list[tuple[int, int]]:
    from lakehouse.lake.lag import end_offsets

    return [
        (int(number), end)
        for number, end in end_offsets(settings.bootstrap(), settings.topics, 10.0)[settings.topic_trades].items()
    ]


@pytest.mark.kafka
def test_a_unit_that_fails_leaves_no_file(kafka_settings: Settings) -> None:
    settings = kafka_settings
    table_io.ensure_tables(settings)
    send(settings, settings.topic_trades, [trade(trade_id=number) for number in range(20)])
    partition, end = next((p, end) for p, end in ends(settings) if end)
    (unit,) = landing.units_of(settings, [OffsetRange(settings.topic_trades, partition, 0, end)])
    gone = dataclasses.replace(unit, ranges=(*unit.ranges, OffsetRange(settings.topic_rejected, 0, 5, 9)))
    with pytest.raises(MessagesLostError):
        landing.land(gone)
    assert parquet_files(settings) == []


def test_files_that_are_adopted_go_if_there_is_no_commit(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    unit = LandUnit("127.0.0.1:1", table_io.table_uri(settings, BRONZE_MESSAGES), ())
    assert landing.land(unit).files == ()


def test_errors_of_a_work_come_back_as_themselves() -> None:
    def fails(unit: int) -> int:
        raise {0: MessagesLostError("a", "b", "c"), 1: RetriableError("d"), 2: OSError("disk is full")}[unit]

    kinds = []
    for unit in range(3):
        answer = pickle.loads(pickle.dumps(tasks._Task(len, code_version())))
        assert answer("abc") == 3
        failure = tasks._Task(fails, code_version())(unit)
        assert isinstance(failure, tasks._Failure)
        kinds.append((failure.kind, failure.parts))
    assert kinds == [
        (MessagesLostError, ("a", "b", "c")),
        (RetriableError, ("d", "", "")),
        (RetriableError, ("OSError: disk is full", "", "")),
    ]


def test_a_worker_with_other_code_refuses() -> None:
    failure = tasks._Task(len, "0" * 16)("abc")
    assert isinstance(failure, tasks._Failure)
    assert failure.kind is TerminalError
    assert "0" * 16 in failure.parts[1]
