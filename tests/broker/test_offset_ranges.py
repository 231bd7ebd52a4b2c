"""Ranges of Kafka's offsets on the real broker: every message of them once, and none that is gone is passed over."""

from __future__ import annotations

import datetime as dt
import itertools
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from lakehouse.broker import offset_ranges
from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange, OffsetRangeReader
from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamFailedError
from lakehouse.tables import BRONZE_MESSAGES
from tests.support.messages import delete_before

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.kafka

#: Messages in each of the first two partitions: more than are handed over at once.
COUNT = 2_500


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_ranges, "CHUNK_MESSAGES", 1_000)


@pytest.fixture
def topic(kafka_settings: Settings) -> str:
    """The topic of trades with COUNT messages in each of two partitions, each of which says where it lies."""
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for offset, partition in itertools.product(range(COUNT), (0, 1)):
        producer.produce(kafka_settings.topic_trades, f"{partition}/{offset}".encode(), partition=partition)
    producer.flush()
    return kafka_settings.topic_trades


def read(settings: Settings, *ranges: OffsetRange) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    with closing(OffsetRangeReader(settings.bootstrap())) as reader:
        for run in reader.read(ranges):
            values = [str(message.value(), "ascii") for message in run.messages]  # type: ignore[arg-type]
            found.setdefault((run.topic, run.partition), []).extend(values)
    return found


def test_ranges_are_read_whole_and_no_further(kafka_settings: Settings, topic: str) -> None:
    wanted = [OffsetRange(topic, 0, 0, COUNT), OffsetRange(topic, 1, 7, 1_234), OffsetRange(topic, 2, 0, 0)]
    assert read(kafka_settings, *wanted) == {
        (topic, 0): [f"0/{offset}" for offset in range(COUNT)],
        (topic, 1): [f"1/{offset}" for offset in range(7, 1_234)],
    }
    assert read(kafka_settings) == {}


def test_one_reader_reads_any_ranges_one_after_the_other(kafka_settings: Settings, topic: str) -> None:
    with closing(OffsetRangeReader(kafka_settings.bootstrap())) as reader:
        for first, end in ((0, 10), (10, 2_000), (5, 6), (COUNT - 1, COUNT)):
            runs = list(reader.read([OffsetRange(topic, 1, first, end)]))
            assert [message.offset() for run in runs for message in run.messages] == list(range(first, end))
            assert [run.first for run in runs] == [run.messages[0].offset() for run in runs]


def test_messages_that_are_gone_are_an_error(kafka_settings: Settings, topic: str) -> None:
    delete_before(kafka_settings, topic, 0, 100)
    assert read(kafka_settings, OffsetRange(topic, 0, 100, 102)) == {(topic, 0): ["0/100", "0/101"]}
    with pytest.raises(MessagesLostError, match=rf"in {topic}/0 of Kafka; expected offset 99, which was not read yet"):
        read(kafka_settings, OffsetRange(topic, 0, 99, 102), OffsetRange(topic, 1, 0, 5))


def test_a_range_that_does_not_come_is_an_error(
    kafka_settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offset_ranges, "SILENT_SECONDS", 1.0)
    with pytest.raises(BrokerUnavailableError, match=f"offset {COUNT} of {topic}/1 did not come"):
        read(kafka_settings, OffsetRange(topic, 1, COUNT - 3, COUNT + 1))


def test_bronze_has_what_kafka_has(spark: SparkSession, kafka_settings: Settings) -> None:
    """Null and empty keys and values, odd bytes, and the three topics, as they lie in Kafka."""
    settings = kafka_settings
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    now = dt.datetime.now(dt.UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=123_000) - dt.timedelta(days=5)  # within the retention
    at = (start - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    sent = [
        (settings.topic_trades, 0, None, b"a"),
        (settings.topic_trades, 0, b"", None),
        (settings.topic_trades, 1, b"\x00\xff", b""),
        (settings.topics[1], 0, b"k", "µ".encode()),
        (settings.topics[2], 0, None, None),
    ]
    for number, (topic, partition, key, value) in enumerate(sent):
        producer.produce(topic, value, key, partition=partition, timestamp=at + number * 86_400_000)
    producer.flush()
    materialize(settings, ("bronze",))
    rows = table_io.sql(settings, "SELECT * FROM t ORDER BY ts_kafka", t=BRONZE_MESSAGES)
    assert rows.schema.names == list(BRONZE_MESSAGES.column_names)
    next_offset: dict[tuple[str, int], int] = {}
    for number, ((topic, partition, key, value), row) in enumerate(zip(sent, rows.to_pylist(), strict=True)):
        offset = next_offset.get((topic, partition), 0)
        next_offset[topic, partition] = offset + 1
        moment = start + dt.timedelta(days=number)
        assert row == {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "ts_kafka": moment,
            "ts_type": 0,
            "key": key,
            "value_raw": value,
            "ingest_date": moment.date(),
        }


def test_a_stream_stops_where_messages_went_before_they_were_read(
    spark: SparkSession, kafka_settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between Spark's look at the topic and the reading of the batch."""
    original = OffsetRangeReader.read

    def read_late(self: OffsetRangeReader, ranges: list[OffsetRange]) -> object:
        delete_before(kafka_settings, topic, 1, 50)
        return original(self, ranges)

    monkeypatch.setattr(OffsetRangeReader, "read", read_late)
    with pytest.raises(StreamFailedError, match="which was not read yet and is gone"):
        materialize(kafka_settings, ("bronze",))
    assert table_io.open_table(kafka_settings, BRONZE_MESSAGES).version() == 0  # as it was made: nothing in it
