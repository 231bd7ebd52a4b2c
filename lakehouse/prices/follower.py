"""The latest trade of each market, from Kafka, in memory.

One thread with a consumer of its own follows the topic of trades from shortly before its end. It belongs to no group
and commits nothing, so that no stream notices it. Guarantee: a market's latest trade is the one with the highest id
that the thread has read. Limits: a market that has not traded in the last messages of its partition before the start is
not known until it trades. After an outage of Kafka the thread goes on where it stopped, unless Kafka has deleted those
messages: then at or shortly before the end.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from lakehouse.broker.topics import librdkafka_log
from lakehouse.errors import LakehouseError
from lakehouse.market.symbols import MarketKey
from lakehouse.prices.latest_trade import LatestTrade, read_trade
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

#: Messages of each partition before its end with which the thread begins: a market that trades is among them.
BEGIN_BEFORE = 2_000
#: Seconds for which a poll waits; a message ends the wait.
POLL_SECONDS = 0.25
#: Messages that are taken at once behind the first.
MOST_AT_ONCE = 1_000
#: Seconds between two looks at the topic's partitions and at the broker.
LOOK_SECONDS = 5.0
#: Seconds that a look may take, and that the thread waits after an error.
ANSWER_SECONDS = 2.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Feed:
    """State of the connection to Kafka, its beginning (seconds since the epoch), and the reason if not connected."""

    connected: bool
    since: float
    reason: str = ""


class Listener(Protocol):
    """Gets every message that the thread of `Prices` reads; called in that thread."""

    def expect(self, partitions: int) -> None:
        """Take note of how many partitions the topic has."""

    def begin(self, partition: int, offset: int) -> None:
        """Take note of the offset at which the reading of a partition begins."""

    def put(self, messages: list[tuple[int, int, LatestTrade | None]]) -> None:
        """Take messages, each partition's in order: (partition, offset, its trade or None if Silver accepts none)."""


class Prices:
    """Follows the topic of trades of one lakehouse, between `start` and `stop`. Any thread may read the rest."""

    def __init__(self, settings: Settings, listener: Listener | None = None) -> None:
        self._settings = settings
        self._listener = listener
        self._latest: dict[MarketKey, LatestTrade] = {}
        self._next: dict[int, int] = {}  # partition → the offset behind the newest message that was read
        self._ends: dict[int, int] = {}  # partition → its end when its reading began
        self._partitions = 0
        self._known: frozenset[int] | None = None  # partitions when the topic was first seen
        self.feed = Feed(False, time.time(), "not asked yet")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prices", daemon=True)

    def start(self) -> None:
        """Start the thread. Returns at once, whether or not there is a broker."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and wait for it, `timeout` seconds at most."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def has_caught_up(self) -> bool:
        """True if each partition has been read up to the end that it had when its reading began."""
        ends = dict(self._ends)
        return 0 < self._partitions <= len(ends) and all(self._next[one] >= end for one, end in ends.items())

    def latest(self, venue: str | None = None, symbol: str | None = None) -> list[LatestTrade]:
        """Return the latest trade of each market, sorted by venue and symbol; None means every venue or symbol."""
        found = [
            trade for (of, name), trade in list(self._latest.items()) if venue in (None, of) and symbol in (None, name)
        ]
        return sorted(found, key=lambda one: (one.venue, one.symbol))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(self._settings.bootstrap())
            except LakehouseError as error:
                self._say(False, error.found)
            except KafkaException as error:
                self._say(False, str(error.args[0].str()))
            except Exception as error:  # whatever it is, prices must come back by themselves
                log.exception("the thread that follows Kafka begins again")
                self._say(False, f"{type(error).__name__}: {error}")
            self._stop.wait(RETRY_SECONDS)

    def _follow(self, bootstrap: str) -> None:
        """Read until the thread is stopped or the broker is another one. Raises KafkaException for what stays."""
        reasons: list[str] = []

        def note(error: KafkaError) -> None:
            reasons[:] = [error.str()]

        consumer = _consumer(bootstrap, note)
        topic = self._settings.topic_trades
        assigned: set[int] = set()
        next_look = 0.0
        try:
            while not self._stop.is_set():
                if time.monotonic() >= next_look:
                    if self._settings.bootstrap() != bootstrap:
                        return
                    assigned |= self._look(consumer, topic, assigned, reasons)
                    next_look = time.monotonic() + (LOOK_SECONDS if self.feed.connected else RETRY_SECONDS)
                first = consumer.poll(POLL_SECONDS)
                if first is not None:
                    self._take([first, *consumer.consume(MOST_AT_ONCE, 0.0)])
        finally:
            consumer.close()

    def _look(self, consumer: Consumer, topic: str, assigned: set[int], reasons: list[str]) -> set[int]:
        """Ask the broker for the topic's partitions, and read the new ones too; returns those."""
        try:
            found = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        except KafkaException as error:
            self._say(False, reasons[0] if reasons else error.args[0].str())
            return set()
        if found.error is not None or not found.partitions:
            self._say(False, f"no topic {topic} yet")
            if found.error is None or found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._known = self._known or frozenset()  # all that it will have comes after this look
            return set()
        self._partitions = len(found.partitions)
        if self._known is None:
            self._known = frozenset(found.partitions)
        if self._listener is not None:
            self._listener.expect(len(found.partitions))
        begun = [self._begin(consumer, topic, partition) for partition in sorted({*found.partitions} - assigned)]
        new = [one for one in begun if one is not None]
        if new:
            consumer.incremental_assign(new)
        self._say(True)
        return {one.partition for one in new}

    def _begin(self, consumer: Consumer, topic: str, partition: int) -> TopicPartition | None:
        """Return where to begin in a partition: where this thread stood, else BEGIN_BEFORE messages before its end.

        One that was added since is read from its first message, so that a live stream misses nothing of a market that
        has moved there. None if the broker does not answer for it: it is asked again at the next look.
        """
        place = TopicPartition(topic, partition)
        try:
            first, end = consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS)
        except KafkaException:
            return None
        stood = self._next.get(partition)
        if stood is not None and first <= stood <= end:
            offset = stood
        elif stood is None and partition not in (self._known or ()):
            offset = first
        else:
            offset = max(first, end - BEGIN_BEFORE)
        self._next[partition], self._ends[partition] = offset, end
        if self._listener is not None:
            self._listener.begin(partition, offset)
        return TopicPartition(topic, partition, offset)

    def _take(self, messages: list[Message]) -> None:
        taken: list[tuple[int, int, LatestTrade | None]] = []
        for message in messages:
            if message.error() is None:
                kafka = int(message.timestamp()[1]) * 1_000
                trade = read_trade(message.value(), kafka, kafka + self._settings.future_tolerance_seconds * 1_000_000)
                partition, offset = int(message.partition() or 0), int(message.offset() or 0)
                taken.append((partition, offset, trade))
                self._next[partition] = offset + 1
                if trade is not None:
                    key = (trade.venue, trade.symbol)
                    before = self._latest.get(key)
                    if before is None or trade.trade_id > before.trade_id:
                        self._latest[key] = trade
        if self._listener is not None:
            self._listener.put(taken)

    def _say(self, connected: bool, reason: str = "") -> None:
        if connected != self.feed.connected:
            self.feed = Feed(connected, time.time(), reason)
        elif reason != self.feed.reason:
            self.feed = replace(self.feed, reason=reason)


def _consumer(bootstrap: str, note: Any) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"prices-{uuid.uuid4().hex}",  # asked for by librdkafka; nothing is ever committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "latest",
            "error_cb": note,
            "fetch.wait.max.ms": 250,
            "queued.max.messages.kbytes": 8_192,  # its memory: prices of before are of no use
            "reconnect.backoff.max.ms": 1_000,
        },
        logger=librdkafka_log,
    )
