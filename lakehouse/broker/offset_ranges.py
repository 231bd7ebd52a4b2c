"""Read ranges of offsets from Kafka: each message once and in order, or an error that names the missing offset.

Guarantee: the messages yielded are exactly those of the ranges, offset after offset of every partition. If a message is
no longer in Kafka (retention, DeleteRecords, compaction), or does not come in time, reading fails; none is skipped.
Checksums are verified.
Limit: a topic that is written in transactions has offsets without a message; our topics are not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from lakehouse.broker.topics import librdkafka_log
from lakehouse.errors import BrokerUnavailableError, TerminalError

#: (topic, partition) of Kafka.
PartitionKey = tuple[str, int]

#: Most messages read from Kafka at a time: a few MB of Python objects, however long the ranges.
CHUNK_MESSAGES = 10_000

#: After so many seconds without any message, although a range is not complete, reading fails.
SILENT_SECONDS = 60.0

#: Errors of a partition that stay: the offset asked for is not in the log (any more).
_LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class OffsetRange(NamedTuple):
    """A range of messages to read from one partition: from the offset `first` up to, but not including, `end`."""

    topic: str
    partition: int
    first: int
    end: int


class Run(NamedTuple):
    """Messages read from one partition, at least one, with consecutive offsets from `first` on."""

    topic: str
    partition: int
    first: int
    messages: list[Message]


class MessagesLostError(TerminalError):
    """Raised if Kafka no longer has a message that is to be read: retention, deletion or compaction. Not retriable."""


class OffsetRangeReader:
    """Reads ranges of offsets from the Kafka at `bootstrap`, without committing offsets.

    Keeps its connections between two calls of `read`, until it is closed (`contextlib.closing`).
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"ranges-{uuid.uuid4().hex}",  # asked for by librdkafka; nothing is ever committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "check.crcs": True,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 16_384,  # what lies behind a range is fetched in vain
                "fetch.queue.backoff.ms": 5,  # a full local queue is emptied in less than the default's second
            },
            logger=librdkafka_log,
        )

    def close(self) -> None:
        """Close the connections to Kafka."""
        self._consumer.close()

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[Run]:
        """Yield the messages of all ranges as runs, those of each partition in the order of their offsets.

        Raises MessagesLostError if Kafka no longer has a message of a range, BrokerUnavailableError if none comes for
        `SILENT_SECONDS`.
        """
        ends = {(one.topic, one.partition): one.end for one in ranges if one.first < one.end}
        expected = {(one.topic, one.partition): one.first for one in ranges if one.first < one.end}
        self._consumer.assign([TopicPartition(topic, at, first) for (topic, at), first in expected.items()])
        heard, reason = time.monotonic(), "no message came"
        try:
            while expected:
                # `consume` waits until it has so many: more than there are would cost its whole timeout.
                left = sum(ends[place] - first for place, first in expected.items())
                for place, messages in _by_place(self._consumer.consume(min(left, CHUNK_MESSAGES), 0.2)).items():
                    reason = _newest_error(messages, expected.get(place)) or reason
                    if place not in expected:  # read to its end already; the rest is another batch's
                        continue
                    first = expected[place]
                    run = _in_order(place, messages, first, ends[place])
                    if not run:
                        continue
                    expected[place] += len(run)
                    if expected[place] == ends[place]:
                        del expected[place]
                        self._consumer.incremental_unassign([TopicPartition(*place)])
                    yield Run(*place, first, run)
                    heard = time.monotonic()  # the caller may be slow to take them
                if time.monotonic() - heard > SILENT_SECONDS:
                    (topic, at), first = next(iter(expected.items()))
                    raise BrokerUnavailableError(
                        f"offset {first} of {topic}/{at} did not come from Kafka at {self._bootstrap} within "
                        f"{SILENT_SECONDS:g} s ({reason})",
                        remedy="try again",
                    )
        finally:
            self._consumer.unassign()


def _newest_error(messages: list[Message], first: int | None) -> str | None:
    """The newest error among a place's messages, None if there is none. librdkafka tries again by itself.

    Raises MessagesLostError if Kafka does not have the offset `first`, which is still to come.
    """
    reason = None
    for message, error in zip(messages, map(Message.error, messages), strict=True):
        if error is None:
            continue
        if first is not None and error.code() in _LOST:
            raise _lost((str(message.topic()), int(message.partition() or 0)), first, f"none ({error.str()})")
        reason = error.str()
    return reason


def _by_place(messages: list[Message]) -> dict[PartitionKey, list[Message]]:
    """Messages by topic and partition, each place's in their order. They come in long runs of one place."""
    places: dict[PartitionKey, list[Message]] = {}
    start = 0
    for topic, run in groupby(map(Message.topic, messages)):
        first, count = start, len(list(run))
        numbers: Any = np.fromiter(map(Message.partition, messages[first : first + count]), np.int64, count)
        for length in [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), count]:
            place = (str(topic), int(numbers[length - 1]))
            places.setdefault(place, []).extend(messages[start : first + length])
            start = first + length
    return places


def _in_order(place: PartitionKey, messages: list[Message], first: int, end: int) -> list[Message]:
    """The messages of a run that belong to a range. Raises MessagesLostError if an offset is left out."""
    good = messages if not any(map(Message.error, messages)) else [one for one in messages if one.error() is None]
    offsets: Any = np.fromiter(map(Message.offset, good), np.int64, len(good))
    run = good[: int(np.searchsorted(offsets, end))]
    gaps = np.flatnonzero(offsets[: len(run)] != np.arange(first, first + len(run)))
    if len(gaps):
        raise _lost(place, first + int(gaps[0]), str(offsets[gaps[0]]))
    return run


def _lost(place: PartitionKey, expected: int, found: str) -> MessagesLostError:
    topic, partition = place
    return MessagesLostError(
        f"offset {found} in {topic}/{partition} of Kafka",
        f"offset {expected}, which was not read yet and is gone (retention, deletion or compaction)",
        "restore the topic, or start a new lakehouse and repair it from the venues; nothing has been skipped",
    )
