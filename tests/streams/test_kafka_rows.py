"""Messages of Kafka as rows of Bronze: each once, by one connection after the other's work."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from lakehouse.broker import offset_ranges
from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange, OffsetRangeReader
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import kafka_rows
from lakehouse.streams.kafka_rows import close_readers, read_rows
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.messages import delete_before

pytestmark = pytest.mark.kafka

#: Messages in each of two partitions, and of one call.
COUNT, CALL = 1_000, 100


@pytest.fixture(autouse=True)
def readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The bootstrap servers of each reader that is made, in chunks of CALL messages; none is left open."""
    monkeypatch.setattr(offset_ranges, "CHUNK_MESSAGES", CALL)
    made: list[str] = []

    class Counted(OffsetRangeReader):
        def __init__(self, bootstrap: str) -> None:
            made.append(bootstrap)
            super().__init__(bootstrap)

    monkeypatch.setattr(kafka_rows, "OffsetRangeReader", Counted)
    close_readers()
    yield made
    close_readers()


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


def test_ranges_are_read_once_and_by_the_same_connection(
    kafka_settings: Settings, topic: str, readers: list[str]
) -> None:
    bootstrap = kafka_settings.bootstrap()
    for first, end in ((0, COUNT), (0, 1), (7, 600), (599, 601)):
        ranges = [OffsetRange(topic, 0, first, end), OffsetRange(topic, 1, 0, 250)]
        assert values(read_rows(bootstrap, ranges)) == truth(*ranges)
    assert readers == [bootstrap]


def test_two_at_a_time_have_a_connection_each(kafka_settings: Settings, topic: str, readers: list[str]) -> None:
    one = OffsetRange(topic, 0, 0, COUNT)
    found: list[dict[int, list[tuple[int, bytes]]]] = []
    halfway = threading.Barrier(2)

    def read() -> None:
        rows = read_rows(kafka_settings.bootstrap(), [one])
        first = next(rows)
        halfway.wait(20)
        found.append(values(iter([first, *rows])))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [truth(one)] * 2
    assert len(readers) == 2


def test_another_kafka_gets_a_connection_of_its_own(kafka_settings: Settings, topic: str, readers: list[str]) -> None:
    one = OffsetRange(topic, 0, 0, 5)
    bootstrap = kafka_settings.bootstrap()
    other = bootstrap.replace("127.0.0.1", "localhost")
    for servers in (bootstrap, other, bootstrap, other):
        assert values(read_rows(servers, [one])) == truth(one)
    assert readers == [bootstrap, other]


def test_an_error_ends_the_connection(kafka_settings: Settings, topic: str, readers: list[str]) -> None:
    delete_before(kafka_settings, topic, 0, 100)
    with pytest.raises(MessagesLostError, match="which was not read yet"):
        list(read_rows(kafka_settings.bootstrap(), [OffsetRange(topic, 0, 0, COUNT)]))
    there = [OffsetRange(topic, 0, 100, COUNT)]
    assert values(read_rows(kafka_settings.bootstrap(), there)) == truth(*there)
    assert len(readers) == 2
