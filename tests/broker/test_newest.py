"""The newest messages of a topic, from a real broker."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from lakehouse.broker.newest import newest_messages
from lakehouse.broker.topics import end_offsets, first_offsets
from lakehouse.settings import Settings

pytestmark = [pytest.mark.kafka]


def _send(settings: Settings, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap()})
    for number in range(count):
        producer.produce(
            settings.topic_trades,
            str(number).encode(),
            b"key",
            partition=number % 3,
            timestamp=1_796_033_000_000 + number,
        )
    assert producer.flush(20) == 0


def test_the_newest_of_all_partitions_in_order_of_time(kafka_settings: Settings) -> None:
    _send(kafka_settings, 20)
    found = newest_messages(kafka_settings.bootstrap(), kafka_settings.topic_trades, 5)
    assert found.column("value").to_pylist() == [str(number).encode() for number in range(15, 20)]
    assert found.column("partition").to_pylist() == [0, 1, 2, 0, 1]
    assert set(found.column("key").to_pylist()) == {b"key"}


def test_fewer_messages_than_asked_for(kafka_settings: Settings) -> None:
    assert newest_messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected, 5).num_rows == 0
    _send(kafka_settings, 2)
    assert newest_messages(kafka_settings.bootstrap(), kafka_settings.topic_trades, 50).num_rows == 2


def test_first_and_next_offsets(kafka_settings: Settings) -> None:
    _send(kafka_settings, 7)
    topic = kafka_settings.topic_trades
    firsts = first_offsets(kafka_settings.bootstrap(), [topic])[topic]
    ends = end_offsets(kafka_settings.bootstrap(), [topic])[topic]
    assert set(firsts.values()) == {0}
    assert sum(ends.values()) == 7
