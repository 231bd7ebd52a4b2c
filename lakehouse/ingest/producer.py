"""Send messages to Kafka at least once, in order per key.

Guarantee: what was handed over is acknowledged by Kafka, or `flush` counts it as unflushed, or `check` raises. A full
local queue blocks the caller (and so, in the end, the exchange's socket); nothing is dropped, and nothing counts as
acknowledged before Kafka's delivery report. Idempotence keeps the order per key and lets retries double nothing; a
fatal error of the producer loses nothing and keeps the order, but may double (`renewed`).
Limit: a crash loses the messages in the local queue. It loses only the newest of each key, so the next start reads
from Kafka where to go on (`resume`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from lakehouse.errors import TerminalError
from lakehouse.exchanges.model import FeedEvent, Rejected, Trade, encode
from lakehouse.ingest.metrics import SymbolCounters
from lakehouse.ingest.renewable_producer import RenewedProducer

#: Milliseconds a message waits for company. Trades come in bursts: 50 ms fill a batch in a burst and do not show in a
#: latency that a venue's network dominates.
LINGER_MS = 50
#: Messages and KiB of the local queue: five seconds at 20,000 trades/s of about 700 bytes. Further trades wait
#: in the socket.
QUEUE_MESSAGES = 100_000
QUEUE_KBYTES = 98_304
#: Seconds to serve delivery reports before a full queue is tried again.
FULL_QUEUE_SECONDS = 0.05
#: Characters of a rejected frame that are kept; Kafka's default limit of a message is 1 MiB, and JSON escapes may make
#: six bytes of one character.
RAW_LIMIT = 150_000


class QueueBlockedError(TerminalError):
    """The service stopped while a message waited for room in the local queue: it was not handed over."""


class MessageTooLargeError(TerminalError):
    """One message is larger than the producer may send."""


class KafkaSink:
    """The one producer of a service. Thread-safe: sockets' threads send, any thread may poll."""

    def __init__(self, bootstrap: str, trades: str, rejected: str, feed_events: str, client_id: str = "ingest") -> None:
        self._trades, self._rejected, self._feed_events = trades, rejected, feed_events
        self._lock = threading.Lock()
        self._abandoned = 0
        self._stopping = threading.Event()
        self._bootstrap = bootstrap
        self._producer = RenewedProducer(bootstrap, self._configuration(client_id))

    def _configuration(self, client_id: str) -> dict[str, Any]:
        return {
            "client.id": client_id,
            "enable.idempotence": True,
            "acks": "all",
            # The venue's raw object repeats the parsed fields, which zstd folds better than lz4; the cost falls on
            # librdkafka's own threads, outside of Python's lock.
            "compression.type": "zstd",
            "linger.ms": LINGER_MS,
            "queue.buffering.max.messages": QUEUE_MESSAGES,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            # 0 is no limit: a broker that is away for an hour holds trades back, it does not throw them away.
            "message.timeout.ms": 0,
            # A restarted broker should be found again within a second, not after the default maximum of 10.
            "reconnect.backoff.max.ms": 1000,
        }

    # Sending. Each blocks while the local queue is full.

    def trade(self, trade: Trade, counters: SymbolCounters) -> None:
        """Hand over a trade, keyed by its symbol. Its acknowledgement is counted in `counters`."""
        counters.produced += 1
        try:
            self._send(self._trades, encode(trade), trade.symbol, partial(_trade_acknowledged, trade, counters))
        except MessageTooLargeError as error:
            counters.produced -= 1
            self.rejected(Rejected(trade.venue, "too_large", str(error), trade.raw, trade.ts_ingest))

    def repair(self, trade: Trade, counters: SymbolCounters, acknowledged: Callable[[], None]) -> None:
        """Hand over a repaired trade. `acknowledged` is called when Kafka has it, one call at a time, in any thread."""
        counters.repair_sent += 1
        report = partial(_repair_acknowledged, trade.trade_id, counters, acknowledged)
        try:
            self._send(self._trades, encode(trade), trade.symbol, report)
        except MessageTooLargeError as error:
            counters.repair_sent -= 1
            self.rejected(Rejected(trade.venue, "too_large", str(error), trade.raw, trade.ts_ingest))
            acknowledged()

    def rejected(self, rejected: Rejected) -> None:
        """Hand over a frame that could not be read, keyed by its venue; a text that Kafka would refuse is cut."""
        if len(rejected.raw) > RAW_LIMIT:
            detail = f"{rejected.detail} (raw text cut from {len(rejected.raw)} to {RAW_LIMIT} characters)"
            rejected = Rejected(rejected.venue, rejected.reason, detail, rejected.raw[:RAW_LIMIT], rejected.ts_ingest)
        self._send(self._rejected, encode(rejected), rejected.venue)

    def event(self, event: FeedEvent) -> None:
        """Hand over a feed event, keyed by its venue."""
        self._send(self._feed_events, encode(event), event.venue)

    def verbatim(self, topic: str, value: bytes, key: bytes | None) -> None:
        """Hand over a message as it is, for a replay."""
        self._send(topic, value, key)

    def _send(
        self, topic: str, value: bytes, key: str | bytes | None, acknowledged: Callable[[], None] = lambda: None
    ) -> None:
        try:
            while not self._producer.take(topic, value, key, acknowledged):
                if self._stopping.is_set() or self._producer.failure is not None:
                    with self._lock:
                        self._abandoned += 1
                    raise QueueBlockedError(f"a message for {topic} found the local queue full while stopping")
                self.poll(FULL_QUEUE_SECONDS)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise MessageTooLargeError(
                    f"a message of {len(value)} bytes for {topic} is above Kafka's limit"
                ) from None
            raise TerminalError(f"Kafka at {self._bootstrap} takes no more messages: {cause.str()}") from None

    # Care.

    @property
    def unacknowledged(self) -> int:
        """Messages handed over whose delivery report has not come."""
        return self._producer.unacknowledged

    @property
    def trouble(self) -> str:
        """The last complaint of librdkafka; empty again with the next acknowledgement."""
        return self._producer.trouble

    def poll(self, seconds: float = 0.0) -> None:
        """Serve delivery reports that are there; wait up to `seconds` for the first."""
        self._producer.poll(seconds)

    def check(self) -> None:
        """Raise what made the producer useless for good, if something did (TerminalError)."""
        if self._producer.failure is not None:
            raise self._producer.failure

    def stop_waiting(self) -> None:
        """From now on a full queue raises QueueBlockedError instead of blocking: the service is stopping."""
        self._stopping.set()

    def flush(self, deadline: float) -> int:
        """Wait until all is acknowledged, until `deadline` (monotonic seconds). Returns how many messages are not.

        Those are given up (the process is about to end), so that nothing of them arrives after it was reported lost.
        """
        return self._producer.flush(deadline) + self._abandoned


def _trade_acknowledged(trade: Trade, counters: SymbolCounters) -> None:
    counters.acknowledged(trade.trade_id, time.time_ns() // 1000 - trade.ts_event)


def _repair_acknowledged(trade_id: int, counters: SymbolCounters, acknowledged: Callable[[], None]) -> None:
    counters.repair_acknowledged(trade_id)
    acknowledged()
