"""Send messages to Kafka at least once, trades in order per market, others in order per key.

Guarantee: each message sent is acknowledged by Kafka, or `flush` counts it as unflushed, or `check` raises. A full
local queue blocks the caller (and so, in the end, the exchange's socket); nothing is dropped, and nothing counts as
acknowledged before Kafka's delivery report. Idempotence keeps the order per partition, and retries double nothing; a
fatal error of the producer loses nothing and keeps the order, but may double messages (`renewable_producer`). A sink
sends a market's trades to one partition for as long as it lives, also if the topic gets more of them meanwhile.
Limit: a crash loses the messages in the local queue. It loses only the newest of each market, so the next start reads
from Kafka where to go on (`resume`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from lakehouse.broker.partitions import partition_of
from lakehouse.errors import TerminalError
from lakehouse.exchanges.model import FeedEvent, Rejected, Trade, encode
from lakehouse.ingest.metrics import SymbolCounters
from lakehouse.ingest.renewable_producer import BY_KEY, RenewedProducer
from lakehouse.market.symbols import MarketKey

#: Milliseconds for which the producer collects messages for a batch (Kafka's linger). Trades come in bursts: 50 ms fill
#: a batch in a burst and do not show in a latency that a venue's network dominates.
LINGER_MS = 50
#: Most messages and KiB of the local queue: five seconds at 20,000 trades/s of about 700 bytes. Further trades wait
#: in the socket.
QUEUE_MESSAGES = 100_000
QUEUE_KBYTES = 98_304
#: Seconds to serve delivery reports before a full queue is tried again.
FULL_QUEUE_SECONDS = 0.05
#: Most characters of a rejected frame that are kept; Kafka's default limit of a message is 1 MiB, and JSON escapes may
#: make six bytes of one character.
RAW_LIMIT = 150_000


class QueueBlockedError(TerminalError):
    """Raised if a message waits for room in the local queue when the service stops or no producer can send any more.

    The message is not sent; `KafkaSink.flush` counts it.
    """


class MessageTooLargeError(TerminalError):
    """Raised if a message is larger than the producer may send; the producer goes on with others."""


class KafkaSink:
    """Sends an ingest service's trades, rejected frames and feed events to their Kafka topics; the only producer.

    Thread-safe: sockets' threads send, any thread may poll. `trades`, `rejected` and `feed_events` are topics,
    `partitions` is the number of partitions of the first, by which each market has its own one (`partition_of`). Each
    method that sends blocks while the local queue is full. It raises QueueBlockedError if the queue is full when the
    service stops or no producer can send any more, MessageTooLargeError (`trade` and `repair` do not), or TerminalError
    for another refusal by Kafka's client.
    """

    def __init__(
        self,
        bootstrap: str,
        trades: str,
        rejected: str,
        feed_events: str,
        *,
        partitions: int,
        client_id: str = "ingest",
    ) -> None:
        self._partitions = partitions
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
        """Send a socket's trade, keyed by its symbol; count it, and later Kafka's acknowledgement, in `counters`.

        Blocks while the local queue is full. A trade that is too large is sent as a rejected frame instead.
        """
        counters.produced += 1
        try:
            self._send_trade(trade, partial(_trade_acknowledged, trade, counters))
        except MessageTooLargeError as error:
            counters.produced -= 1
            self.rejected(Rejected(trade.venue, "too_large", str(error), trade.raw, trade.ts_ingest))

    def repair(self, trade: Trade, counters: SymbolCounters, acknowledged: Callable[[], None]) -> None:
        """Send a repaired trade, keyed by its symbol. Blocks while the local queue is full.

        `acknowledged` is called once Kafka has it, on whichever thread polls, one call at a time. If the trade is too
        large, it is sent as a rejected frame, and `acknowledged` is called at once.
        """
        counters.repair_sent += 1
        report = partial(_repair_acknowledged, trade.trade_id, counters, acknowledged)
        try:
            self._send_trade(trade, report)
        except MessageTooLargeError as error:
            counters.repair_sent -= 1
            self.rejected(Rejected(trade.venue, "too_large", str(error), trade.raw, trade.ts_ingest))
            acknowledged()

    def rejected(self, rejected: Rejected) -> None:
        """Send a frame that could not be read, keyed by its venue, its raw text cut after RAW_LIMIT characters."""
        if len(rejected.raw) > RAW_LIMIT:
            detail = f"{rejected.detail} (raw text cut from {len(rejected.raw)} to {RAW_LIMIT} characters)"
            rejected = Rejected(rejected.venue, rejected.reason, detail, rejected.raw[:RAW_LIMIT], rejected.ts_ingest)
        self._send(self._rejected, encode(rejected), rejected.venue)

    def event(self, event: FeedEvent) -> None:
        """Send a feed event, keyed by its venue. Blocks while the local queue is full."""
        self._send(self._feed_events, encode(event), event.venue)

    def verbatim(self, topic: str, value: bytes, key: bytes | None, market: MarketKey | None) -> None:
        """Send an encoded message unchanged to a topic; for the replay of quarantined messages.

        `market` is that of a trade, None for other messages.
        """
        self._send(topic, value, key, partition=BY_KEY if market is None else partition_of(*market, self._partitions))

    def _send_trade(self, trade: Trade, acknowledged: Callable[[], None]) -> None:
        partition = partition_of(trade.venue, trade.symbol, self._partitions)
        self._send(self._trades, encode(trade), trade.symbol, acknowledged, partition)

    def _send(
        self,
        topic: str,
        value: bytes,
        key: str | bytes | None,
        acknowledged: Callable[[], None] = lambda: None,
        partition: int = BY_KEY,
    ) -> None:
        try:
            while not self._producer.take(topic, value, key, partition, acknowledged):
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
        """Number of messages taken that Kafka has neither acknowledged nor refused yet."""
        return self._producer.unacknowledged

    @property
    def trouble(self) -> str:
        """The last error message of librdkafka, or why a new producer is due; empty after an acknowledgement."""
        return self._producer.trouble

    def poll(self, seconds: float = 0.0) -> None:
        """Run the callbacks of the delivery reports that have come; wait up to `seconds` for the first."""
        self._producer.poll(seconds)

    def check(self) -> None:
        """Raise the TerminalError after which no message can be sent any more; return if there is none."""
        if self._producer.failure is not None:
            raise self._producer.failure

    def stop_waiting(self) -> None:
        """Let sends raise QueueBlockedError from now on, instead of blocking on a full queue: the service stops."""
        self._stopping.set()

    def flush(self, deadline: float) -> int:
        """Wait until Kafka has acknowledged all messages, until `deadline` (monotonic seconds) at most.

        Returns the number of messages that were not sent or not acknowledged, 0 if all were. They are given up (the
        process is about to end), so that none of them arrives after it was reported lost; this may take a second more.
        """
        return self._producer.flush(deadline) + self._abandoned


def _trade_acknowledged(trade: Trade, counters: SymbolCounters) -> None:
    counters.acknowledged(trade.trade_id, time.time_ns() // 1000 - trade.ts_event)


def _repair_acknowledged(trade_id: int, counters: SymbolCounters, acknowledged: Callable[[], None]) -> None:
    counters.repair_acknowledged(trade_id)
    acknowledged()
