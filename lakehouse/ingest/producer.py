"""Into Kafka, at least once, in order per key.

Guarantee: what was handed over is acknowledged by Kafka, or `flush` counts it as unflushed, or `check` raises. A full
local queue blocks the caller (and so, in the end, the exchange's socket); nothing is dropped, and nothing counts as
acknowledged before Kafka's delivery report. Idempotence keeps the order per key and lets retries double nothing.
Gap: what is in the local queue dies with the process. It dies from its end, per key, so the next start reads from Kafka
itself where to go on (`marks`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakehouse.broker.topics import librdkafka_log
from lakehouse.errors import LakehouseError, RetriableError, TerminalError
from lakehouse.exchanges.model import FeedEvent, Rejected, Trade, encode
from lakehouse.ingest.metrics import SymbolCounters

#: Milliseconds a message waits for company. Trades come in bursts: 50 ms fill a batch in a burst and do not show in a
#: latency that a venue's network dominates.
LINGER_MS = 50
#: Messages and KiB of the local queue: five seconds at 20,000 trades/s of about 700 bytes. What does not fit waits in
#: the socket.
QUEUE_MESSAGES = 100_000
QUEUE_KBYTES = 98_304
#: Seconds to serve delivery reports before a full queue is tried again.
FULL_QUEUE_SECONDS = 0.05
#: Characters of a rejected frame that are kept; Kafka's default limit of a message is 1 MiB, and JSON escapes may make
#: six bytes of one character.
RAW_LIMIT = 150_000

Report = Callable[[KafkaError | None, Message], None]


class QueueBlockedError(TerminalError):
    """The service stopped while a message waited for room in the local queue: it was not handed over."""


class MessageTooLargeError(TerminalError):
    """One message is larger than the producer may send."""


class KafkaSink:
    """The one producer of a service. Thread-safe: sockets' threads send, any thread may poll."""

    def __init__(self, bootstrap: str, trades: str, rejected: str, feed_events: str, client_id: str = "ingest") -> None:
        self._trades, self._rejected, self._feed_events = trades, rejected, feed_events
        self._lock = threading.Lock()  # of everything that delivery reports write
        self._send_lock = threading.Lock()
        self._handed_over = 0
        self._abandoned = 0
        self._reported = 0
        self._failure: LakehouseError | None = None
        self.trouble = ""  #: what librdkafka last complained about; empty again with the next acknowledgement
        self._stopping = threading.Event()
        self._bootstrap = bootstrap
        self._producer = Producer(self._configuration(bootstrap, client_id), logger=librdkafka_log)

    def _configuration(self, bootstrap: str, client_id: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": bootstrap,
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
            "error_cb": self._on_error,
        }

    # Sending. Each blocks while the local queue is full.

    def trade(self, trade: Trade, counters: SymbolCounters) -> None:
        """Hand over a trade, keyed by its symbol. Its acknowledgement is counted in `counters`."""
        counters.produced += 1
        try:
            self._send(self._trades, encode(trade), trade.symbol, partial(self._trade_reported, trade, counters))
        except MessageTooLargeError as error:
            counters.produced -= 1
            self.rejected(Rejected(trade.venue, "too_large", str(error), trade.raw, trade.ts_ingest))

    def repair(self, trade: Trade, counters: SymbolCounters, acknowledged: Callable[[], None]) -> None:
        """Hand over a repaired trade. `acknowledged` is called when Kafka has it, one call at a time, in any thread."""
        counters.repair_sent += 1
        report = partial(self._repair_reported, trade.trade_id, counters, acknowledged)
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
        self._send(self._rejected, encode(rejected), rejected.venue, self._reported_one)

    def event(self, event: FeedEvent) -> None:
        """Hand over a feed event, keyed by its venue."""
        self._send(self._feed_events, encode(event), event.venue, self._reported_one)

    def verbatim(self, topic: str, value: bytes, key: bytes | None) -> None:
        """Hand over a message as it is, for a replay."""
        self._send(topic, value, key, self._reported_one)

    def _send(self, topic: str, value: bytes, key: str | bytes | None, report: Report) -> None:
        with self._send_lock:  # counted first: the report may come before produce() returns
            self._handed_over += 1
        try:
            while not self._accepted(topic, value, key, report):
                self._producer.poll(FULL_QUEUE_SECONDS)
        except LakehouseError:
            with self._send_lock:
                self._handed_over -= 1
            raise

    def _accepted(self, topic: str, value: bytes, key: str | bytes | None, report: Report) -> bool:
        """Hand one message to librdkafka. False where its queue is full and it is worth trying again."""
        try:
            self._producer.produce(topic, value, key, on_delivery=report)
        except BufferError:
            if not self._stopping.is_set() and self._failure is None:
                return False
            with self._send_lock:
                self._abandoned += 1
            raise QueueBlockedError(f"a message for {topic} found the local queue full while stopping") from None
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise MessageTooLargeError(
                    f"a message of {len(value)} bytes for {topic} is above Kafka's limit"
                ) from None
            raise TerminalError(f"Kafka at {self._bootstrap} takes no more messages: {cause.str()}") from None
        return True

    # Delivery reports. They run on whichever thread polls.

    def _trade_reported(self, trade: Trade, counters: SymbolCounters, error: KafkaError | None, _: Message) -> None:
        now = time.time_ns() // 1000
        with self._lock:
            self._reported += 1
            if error is None:
                self.trouble = ""
                counters.acknowledged(trade.trade_id, now - trade.ts_event)
            else:
                self._fail(error)

    def _repair_reported(
        self,
        trade_id: int,
        counters: SymbolCounters,
        acknowledged: Callable[[], None],
        error: KafkaError | None,
        _: Message,
    ) -> None:
        with self._lock:
            self._reported += 1
            if error is None:
                self.trouble = ""
                counters.repair_acknowledged(trade_id)
                acknowledged()
            else:
                self._fail(error)

    def _reported_one(self, error: KafkaError | None, _: Message) -> None:
        with self._lock:
            self._reported += 1
            if error is None:
                self.trouble = ""
            else:
                self._fail(error)

    def _on_error(self, error: KafkaError) -> None:
        # Everything that is not fatal librdkafka retries by itself: a broker that went away is no failure of ours.
        self.trouble = error.str()
        if error.fatal():
            with self._lock:
                self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        if self._failure is not None or error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return
        # A broken sequence of an idempotent producer is mended by a new producer; a refused topic is not.
        kind = RetriableError if error.fatal() else TerminalError
        self._failure = kind(f"Kafka at {self._bootstrap} refused a message for good: {error.str()}")

    # Care.

    @property
    def unacknowledged(self) -> int:
        """Messages handed over whose delivery report has not come."""
        return self._handed_over - self._reported

    def poll(self, seconds: float = 0.0) -> None:
        """Serve delivery reports that are there; wait up to `seconds` for the first."""
        self._producer.poll(seconds)

    def check(self) -> None:
        """Raise what made the producer useless, if something did (TerminalError)."""
        if self._failure is not None:
            raise self._failure

    def stop_waiting(self) -> None:
        """From now on a full queue raises QueueBlockedError instead of blocking: the service is stopping."""
        self._stopping.set()

    def flush(self, deadline: float) -> int:
        """Wait until all is acknowledged, until `deadline` (monotonic seconds). Returns how many messages are not.

        Those are given up (the process is about to end), so that nothing of them arrives after it was reported lost.
        """
        while self.unacknowledged and self._failure is None and time.monotonic() < deadline:
            self._producer.flush(max(0.0, min(0.5, deadline - time.monotonic())))
        unflushed = self.unacknowledged
        if unflushed:
            self._producer.purge()
            self._producer.flush(1.0)
        return unflushed + self._abandoned
