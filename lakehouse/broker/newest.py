"""Read the newest messages of a topic, to show them to a person."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader
from lakehouse.broker.topics import end_offsets, first_offsets

_COLUMNS: dict[str, Any] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "ts_kafka": pa.timestamp("ms", tz="UTC"),
    "key": pa.binary(),
    "value": pa.binary(),
}
#: Columns of `newest_messages`; key and value are the bytes as they were sent.
MESSAGES = pa.schema([pa.field(name, kind) for name, kind in _COLUMNS.items()])


def newest_messages(bootstrap: str, topic: str, count: int) -> pa.Table:
    """Return the `count` newest messages of a topic over all partitions (MESSAGES), by Kafka's time, the newest last.

    Empty if there is no such topic. Raises BrokerUnavailableError if no broker answers, MessagesLostError if Kafka
    deletes a message meanwhile.
    """
    firsts, ends = first_offsets(bootstrap, [topic])[topic], end_offsets(bootstrap, [topic])[topic]
    ranges = [OffsetRange(topic, at, max(firsts.get(at, end), end - count), end) for at, end in ends.items()]
    with contextlib.closing(OffsetRangeReader(bootstrap)) as reader:
        messages = [message for run in reader.read(ranges) for message in run.messages]
    messages.sort(key=lambda one: (one.timestamp()[1], one.partition() or 0, one.offset() or 0))
    return pa.Table.from_pylist([_row(message) for message in messages[-count:]], MESSAGES)


def _row(message: Message) -> dict[str, object]:
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "ts_kafka": dt.datetime.fromtimestamp(message.timestamp()[1] / 1000, dt.UTC),
        "key": message.key(),
        "value": message.value(),
    }
