"""Helpers of the ingest tests: a websocket server that follows a script, and all messages of a Kafka topic."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from lakehouse.broker.newest import newest_messages
from lakehouse.broker.topics import end_offsets

Script = Callable[[ServerConnection], None]


@contextmanager
def venue_server(
    script: Script, refuse: Callable[[ServerConnection, Request], Response | None] | None = None
) -> Iterator[str]:
    """A server on localhost that runs `script` for each connection. Yields its `ws://127.0.0.1:PORT`."""

    def handler(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            script(connection)

    with serve(
        handler, "127.0.0.1", 0, compression=None, ping_interval=None, process_request=refuse, close_timeout=1
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def messages(bootstrap: str, topic: str) -> list[tuple[str, dict[str, Any]]]:
    """(key, value) of everything in a topic at this moment, in the order of each partition."""
    found: list[tuple[str, dict[str, Any]]] = []
    ends = end_offsets(bootstrap, [topic])[topic]
    left = sum(ends.values())
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        deadline = time.monotonic() + 30
        while len(found) < left and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.2):
                assert message.error() is None
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if offset >= ends[partition]:  # it came while this reads
                    continue
                key, value = message.key(), message.value()
                assert key is not None
                assert value is not None
                found.append((key.decode(), json.loads(value)))
    finally:
        consumer.close()
    assert len(found) == left
    return found


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition; fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def partitions_of(bootstrap: str, topic: str) -> dict[tuple[str, str], set[int]]:
    """(venue, symbol) → the partitions of a topic that hold trades of it."""
    found: dict[tuple[str, str], set[int]] = {}
    for row in newest_messages(bootstrap, topic, 1_000_000).select(["partition", "value"]).to_pylist():
        value = json.loads(row["value"])
        found.setdefault((value["venue"], value["symbol"]), set()).add(row["partition"])
    return found
