"""The consumer of the loop and of the floor: a group of its own, from the beginning, in large batches."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer

from benchmarks.peers.task import Task

#: Seconds without a message after which the topic is taken for shorter than it should be.
SILENT_SECONDS = 30.0
#: Messages of one call.
CALL = 50_000


def batches(task: Task) -> Iterator[list[Any]]:
    """Yield lists of up to `task.batch` messages until all have come. Raises TimeoutError on a short topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": f"bench-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # Large fetches: the defaults are made for latency.
            "fetch.max.bytes": 64 * 1024 * 1024,
            "max.partition.fetch.bytes": 16 * 1024 * 1024,
            "queued.max.messages.kbytes": 256 * 1024,
            "queued.min.messages": 500_000,
            "check.crcs": False,
        }
    )
    consumer.subscribe([task.topic])
    left = task.messages
    try:
        while left:
            batch: list[Any] = []
            wanted = min(task.batch, left)
            while len(batch) < wanted:
                got = consumer.consume(min(CALL, wanted - len(batch)), timeout=1.0 if batch else SILENT_SECONDS)
                if not got and not batch:
                    raise TimeoutError(f"no message for {SILENT_SECONDS} s with {left} to come")
                batch += got
            left -= len(batch)
            yield batch
    finally:
        consumer.close()
