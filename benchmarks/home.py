"""The broker, topic and folders of one benchmark: created at its start, removed at its end."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from benchmarks.data import Message
from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.partitions import partition_of
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings

#: The repository: peers are started from here as modules.
ROOT = Path(__file__).parent.parent
#: Results stay here, what was measured does not.
RESULTS = ROOT / ".lakehouse" / "bench"

#: Seconds for the broker to answer: what is measured begins later, so a busy machine may take its time.
START_SECONDS = 240.0
#: Seconds for the last messages to be acknowledged; the queue holds some seconds of them.
FLUSH_SECONDS = 120.0


@contextmanager
def bench_home(partitions: int | None = None) -> Iterator[Settings]:
    """Yield settings of an empty home with a running broker and empty topics; remove all of it at the end.

    The topic of trades has `partitions`, None for as many as by default.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=RESULTS))
    try:
        broker = EmbeddedBroker(load_settings(home=folder))
        broker.start(START_SECONDS)
        try:
            settings = load_settings(home=folder, bootstrap_servers=broker.bootstrap, topic_partitions=partitions)
            ensure_topics(settings)
            yield settings
        finally:
            broker.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Market(msgspec.Struct):
    venue: str
    symbol: str


_read_market = msgspec.json.Decoder(_Market).decode


def fill(settings: Settings, messages: Iterable[Message]) -> tuple[int, float]:
    """Produce into the topic of trades as ingest does: idempotent, zstd, keyed by symbol, each market in its partition.

    Returns messages and seconds. Raises TimeoutError where the broker did not take all.
    """
    producer = Producer(
        {
            "bootstrap.servers": settings.bootstrap(),
            "enable.idempotence": True,
            "compression.type": "zstd",  # as ingest's own (`lakehouse.ingest.producer`)
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
            "log_level": 0,
        }
    )
    began, count, topic = time.monotonic(), 0, settings.topic_trades
    for key, value in messages:
        while True:
            try:
                market = _read_market(value)
                partition = partition_of(market.venue, market.symbol, settings.topic_partitions)
                producer.produce(topic, value, key, partition)
                break
            except BufferError:  # the local queue is full
                producer.poll(0.1)
        count += 1
    left = producer.flush(FLUSH_SECONDS)
    if left:
        raise TimeoutError(f"{left} of {count} messages were not acknowledged within {FLUSH_SECONDS:g} s")
    return count, time.monotonic() - began
