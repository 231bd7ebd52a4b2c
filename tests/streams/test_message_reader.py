"""Messages read before a batch asks for them: the batch holds the same rows, wherever it begins and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from lakehouse.broker import offset_ranges
from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange, OffsetRangeReader, Run
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.message_reader import Reader, first_messages
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.messages import delete_before, send, trades

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.kafka

#: Messages in each of two partitions, and of one call.
COUNT, CALL = 1_000, 100


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_ranges, "CHUNK_MESSAGES", CALL)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[OffsetRange]]:
    """Every list of ranges that is asked of Kafka, in the order of asking."""
    found: list[list[OffsetRange]] = []
    original = OffsetRangeReader.read

    def read(self: OffsetRangeReader, ranges: Sequence[OffsetRange]) -> Iterator[Run]:
        found.append(list(ranges))
        return original(self, ranges)

    monkeypatch.setattr(OffsetRangeReader, "read", read)
    return found


@pytest.fixture
def topic(kafka_settings: Settings) -> str:
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for offset in range(COUNT):
        for partition in (0, 1):
            producer.produce(kafka_settings.topic_trades, f"{partition}/{offset}".encode(), partition=partition)
    producer.flush()
    return kafka_settings.topic_trades


def values(rows: Iterator[pa.Table]) -> dict[int, list[tuple[int, bytes]]]:
    """Partition → offsets and messages, in the order in which they came."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    for table in rows:
        assert table.schema == table_io.arrow_schema(BRONZE_MESSAGES)
        assert table.num_rows
        for row in table.to_pylist():
            found.setdefault(row["partition"], []).append((row["offset"], row["value_raw"]))
    return found


def truth(*ranges: OffsetRange) -> dict[int, list[tuple[int, bytes]]]:
    return {
        one.partition: [(offset, f"{one.partition}/{offset}".encode()) for offset in range(one.first, one.end)]
        for one in ranges
    }


def have_ended(name: str) -> bool:
    deadline = time.monotonic() + 20
    while any(thread.name == name for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize(
    ("first", "end"),
    [(0, COUNT), (0, 600), (0, 250), (0, 99), (0, 1), (7, 600), (600, COUNT)],
    ids=lambda offset: str(offset),
)
def test_a_batch_holds_its_ranges_whatever_was_read_ahead(
    kafka_settings: Settings, topic: str, asked: list[list[OffsetRange]], first: int, end: int
) -> None:
    reader = Reader(kafka_settings)
    reader.read_ahead([OffsetRange(topic, 0, 0, 600), OffsetRange(topic, 1, 0, 250)])
    assert have_ended("read-ahead")  # it has read all of that
    ranges = [OffsetRange(topic, 0, first, end), OffsetRange(topic, 1, 0, COUNT)]
    assert values(reader.read(ranges)) == truth(*ranges)
    left = [OffsetRange(topic, 0, 600 if first == 0 else first, end), OffsetRange(topic, 1, 250, COUNT)]
    assert asked[1] == [one for one in left if one.first < one.end]
    behind = [OffsetRange(topic, 0, end, COUNT)] if end < COUNT else []
    assert values(reader.read(behind)) == truth(*behind)
    assert asked[2] == [one._replace(first=max(end, 600 if first == 0 else end)) for one in behind]
    again = [OffsetRange(topic, 0, 0, 5)]
    assert values(reader.read(again)) == truth(*again)
    assert asked[3] == again
    reader.close()


def test_a_batch_does_not_wait_for_what_is_still_to_be_read_ahead(
    kafka_settings: Settings, topic: str, asked: list[list[OffsetRange]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading ahead stands still after its first rows until the batch is done."""
    began, is_done = threading.Event(), threading.Event()
    counted = OffsetRangeReader.read

    def slow(self: OffsetRangeReader, ranges: Sequence[OffsetRange]) -> Iterator[Run]:
        for number, run in enumerate(counted(self, ranges)):
            if threading.current_thread().name == "read-ahead" and number == 1:
                began.set()
                assert is_done.wait(20)
            yield run

    monkeypatch.setattr(OffsetRangeReader, "read", slow)
    reader = Reader(kafka_settings)
    ranges = [OffsetRange(topic, 0, 0, COUNT), OffsetRange(topic, 1, 0, COUNT)]
    reader.read_ahead(ranges)
    assert began.wait(20)
    assert values(reader.read(ranges)) == truth(*ranges)
    assert sum(one.end - one.first for one in asked[1]) == 2 * COUNT - CALL
    is_done.set()
    assert have_ended("read-ahead")
    reader.close()


def test_messages_that_are_gone_are_an_error_of_the_batch_alone(kafka_settings: Settings, topic: str) -> None:
    delete_before(kafka_settings, topic, 0, 100)
    reader = Reader(kafka_settings)
    reader.read_ahead([OffsetRange(topic, 0, 0, COUNT)])
    assert have_ended("read-ahead")
    with pytest.raises(MessagesLostError, match="which was not read yet"):
        list(reader.read([OffsetRange(topic, 0, 0, COUNT)]))
    there = [OffsetRange(topic, 0, 100, COUNT)]
    assert values(reader.read(there)) == truth(*there)
    reader.close()


def test_a_reader_that_nobody_asks_ends(kafka_settings: Settings, topic: str) -> None:
    reader = Reader(kafka_settings)
    reader.read_ahead([OffsetRange(topic, 0, 0, COUNT)])
    reader.close()
    assert have_ended("read-ahead")


@pytest.mark.spark
def test_a_long_catch_up_begins_with_what_was_read_ahead(
    spark: SparkSession, kafka_settings: Settings, asked: list[list[OffsetRange]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader reads ahead what Spark's first batches hold; batches are equal; every offset is in the table once."""
    original = Reader.read

    def read_late(self: Reader, ranges: Sequence[OffsetRange]) -> Iterator[pa.Table]:
        assert have_ended("read-ahead")
        return original(self, ranges)

    monkeypatch.setattr(Reader, "read", read_late)
    settings = kafka_settings.model_copy(update={"max_offsets_per_trigger": 500})
    send(settings, settings.topic_trades, trades(1_201, seed=1))
    materialize(settings)
    ahead, first, second, third = asked
    rounding = settings.topic_partitions + len(settings.topics)
    assert 2 * 401 <= sum(one.end - one.first for one in ahead) <= 2 * (401 + rounding)
    for behind in (first, second):  # but for rounding, all of it was there
        assert sum(one.end - one.first for one in behind) <= 2 * len(ahead)
    assert sum(one.end - one.first for one in third) in range(370, 402)
    rows = table_io.sql(settings, 'SELECT "partition", "offset" FROM t', t=BRONZE_MESSAGES).to_pylist()
    for partition in {row["partition"] for row in rows}:
        offsets = sorted(row["offset"] for row in rows if row["partition"] == partition)
        assert offsets == list(range(len(offsets)))
    assert len(rows) == 1_201


def test_the_first_messages_is_shared_out_by_what_there_is() -> None:
    end = {"trades": {"0": 100, "1": 300, "2": 0}, "events": {"0": 10}}
    assert first_messages({}, end, 41) == [
        OffsetRange("trades", 0, 0, 10),
        OffsetRange("trades", 1, 0, 30),
        OffsetRange("events", 0, 0, 1),
    ]
    assert first_messages({"trades": {"0": 90, "1": 300}}, end, 500) == [
        OffsetRange("trades", 0, 90, 100),
        OffsetRange("events", 0, 0, 10),
    ]
    assert first_messages(end, end, 500) == []
