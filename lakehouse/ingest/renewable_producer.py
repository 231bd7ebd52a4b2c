"""A Kafka producer that is replaced by a new one after a fatal error, without losing a message.

If the order of its messages can no longer be kept, librdkafka ends an idempotent producer: it takes no more messages,
and gives back those that it has not delivered. Then a new one takes its place, after a pause, and sends those first.

Guarantee: each message that was taken is acknowledged, or counts as `unacknowledged`, or `failure` is set; the order
per partition is kept. Limit: messages that Kafka had stored but not acknowledged when a producer broke come a second
time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakehouse.broker.topics import librdkafka_log
from lakehouse.errors import TerminalError
from lakehouse.ingest.backoff import HEALTHY_SECONDS, Pauses, Steps

_log = logging.getLogger(__name__)

#: Backoff before a new producer after a fatal error. Kafka gives a new producer's identity at once; errors that come
#: again and again have a cause that lasts, such as a broker that loses its state with every restart.
RENEWALS = Steps(1.0, 30.0)
#: Seconds of one wait for delivery reports in `flush`, and most seconds for those of the messages purged at its end.
SERVE_SECONDS = 0.05
PURGE_SECONDS = 1.0
#: Fatal errors that a new producer would meet as well, until somebody changes the rights or the broker: `failure`.
FOR_GOOD = frozenset(
    (
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
    )
)
#: Errors of the message that broke the order; librdkafka may report its own fatal error later.
OUT_OF_SEQUENCE = frozenset(
    (
        KafkaError._FATAL,
        KafkaError._INCONSISTENT,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.DUPLICATE_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    )
)
#: Errors of the messages after that one, which librdkafka gives back undelivered.
PURGED = frozenset((KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT))
#: librdkafka's number for "the partition that the key gives".
BY_KEY = -1


class Unsent(NamedTuple):
    """A message that a broken producer gave back undelivered; `number` is its place in the order of all messages."""

    number: int
    topic: str
    value: bytes
    key: bytes | None
    partition: int
    acknowledged: Callable[[], None]


class RenewedProducer:
    """A Kafka producer that replaces itself after a fatal error; `configuration` is librdkafka's.

    Thread-safe. `acknowledged` callbacks run one at a time, on the thread that polls.
    """

    def __init__(self, bootstrap: str, configuration: Mapping[str, Any]) -> None:
        self.failure: TerminalError | None = None  #: the error after which no producer can send; None if it works
        self._bootstrap = bootstrap
        self._configuration = {**configuration, "bootstrap.servers": bootstrap, "error_cb": self._on_error}
        self._lock = threading.RLock()  # of everything that delivery reports write
        self._send_lock = threading.Lock()  # of the producer: held to hand over, or to put a new one in its place
        self._renewing = threading.Lock()
        self._handed_over = 0
        self._reported = 0
        self._complaint = ""
        self._broken = ""  # why the producer takes no more, if it does not
        self._unsent: list[Unsent] = []
        self._pauses = Pauses(random.Random(), RENEWALS)
        self._renew_at = self._renewed_at = 0.0
        self._given_up = False
        self._producer = self._new()

    def _new(self) -> Producer:
        return Producer(self._configuration, logger=librdkafka_log)

    @property
    def unacknowledged(self) -> int:
        """Number of messages taken that Kafka has neither acknowledged nor refused yet."""
        return self._handed_over - self._reported

    @property
    def trouble(self) -> str:
        """The last error message of librdkafka, or why a new producer is due; empty after an acknowledgement."""
        with self._lock:
            if not self._broken:
                return self._complaint
            wait = max(0.0, self._renew_at - time.monotonic())
            return f"the producer broke: {self._broken}; a new one in {wait:.0f} s"

    def take(
        self, topic: str, value: bytes, key: str | bytes | None, partition: int, acknowledged: Callable[[], None]
    ) -> bool:
        """Take a message to send to a partition or BY_KEY; `acknowledged` is called once Kafka has it.

        Returns False if the message was not taken, because the queue is full or the producer is broken: call `poll`,
        then try again. Raises KafkaException for an error of this message, such as its size.
        """
        try:
            with self._send_lock:
                if self._broken:
                    return False
                self._handed_over += 1  # before: the report may come before produce() returns
                try:
                    self._produce(self._handed_over, topic, value, key, partition, acknowledged)
                except (BufferError, KafkaException):
                    self._handed_over -= 1
                    raise
        except BufferError:
            return False
        except KafkaException as error:
            if not _is_fatal(error.args[0]):
                raise
            self._break(error.args[0])
            return False
        return True

    def poll(self, seconds: float = 0.0) -> None:
        """Run the callbacks of the delivery reports that have come; wait up to `seconds` for the first.

        Replaces a broken producer by a new one, once its pause is over.
        """
        # Not flush(): after a fatal error it goes on to the delivery reports with that exception set, and loses them.
        try:
            self._producer.poll(seconds)
        except KafkaException as error:  # how the client tells a fatal error
            self._break(error.args[0])
        if self._broken:
            self._renew()

    def flush(self, deadline: float) -> int:
        """Wait until Kafka has acknowledged all messages, until `deadline` (monotonic seconds) at most.

        Returns the number of messages that Kafka has not acknowledged. They are given up, so that none of them arrives
        after it was reported lost.
        """
        while self.unacknowledged and self.failure is None and time.monotonic() < deadline:
            self.poll(max(0.0, min(SERVE_SECONDS, deadline - time.monotonic())))
        with self._send_lock, self._lock:
            unflushed = self.unacknowledged
            self._given_up = unflushed > 0
        if unflushed:
            self._producer.purge()
            until = time.monotonic() + PURGE_SECONDS
            while len(self._producer) and time.monotonic() < until:
                self.poll(SERVE_SECONDS)
        return unflushed

    def _produce(
        self,
        number: int,
        topic: str,
        value: bytes,
        key: str | bytes | None,
        partition: int,
        acknowledged: Callable[[], None],
    ) -> None:
        report = partial(self._delivered, number, acknowledged)
        self._producer.produce(topic, value, key, partition, on_delivery=report)

    # Reports. They run on whichever thread polls.

    def _delivered(
        self, number: int, acknowledged: Callable[[], None], error: KafkaError | None, message: Message
    ) -> None:
        with self._lock:
            if error is None:
                self._reported += 1
                self._complaint = ""
                acknowledged()
            elif not self._given_up and (self._broken or _is_fatal(error) or error.code() in PURGED):
                topic, value = message.topic() or "", message.value() or b""
                partition = message.partition()
                place = BY_KEY if partition is None else partition
                self._unsent.append(Unsent(number, topic, value, message.key(), place, acknowledged))
                self._break(error)
            else:
                self._reported += 1
                if error.code() not in PURGED:
                    self._fail(error)

    def _on_error(self, error: KafkaError) -> None:
        # Everything that is not fatal librdkafka retries by itself: a broker that went away is no failure of ours.
        self._complaint = error.str()
        if error.fatal():
            self._break(error)

    def _fail(self, error: KafkaError) -> None:
        self.failure = self.failure or TerminalError(
            f"Kafka at {self._bootstrap} refused a message for good: {error.str()}"
        )

    # A new producer in place of a broken one.

    def _break(self, error: KafkaError) -> None:
        """The producer takes no more; `poll` will replace it."""
        with self._lock:
            if error.code() in FOR_GOOD:
                self._fail(error)
            elif self._broken:
                if error.fatal() and error.str() != self._broken:  # neither produce() nor a report tells the cause
                    self._broken = error.str()
                    _log.warning("Kafka at %s: %s", self._bootstrap, self.trouble)
            elif self.failure is None:
                now = time.monotonic()
                if now - self._renewed_at >= HEALTHY_SECONDS:
                    self._pauses.reset()
                self._renew_at = now + self._pauses.after()
                self._broken = error.str()
                _log.warning("Kafka at %s: %s", self._bootstrap, self.trouble)

    def _renew(self) -> None:
        """Replace the broken producer, once its pause is over and it has given back what it did not deliver."""
        with self._renewing:
            self._producer.purge()
            if time.monotonic() < self._renew_at:
                return
            with self._send_lock, self._lock:
                is_waiting = self.unacknowledged > len(self._unsent)
                if is_waiting or not self._broken or self._given_up or self.failure is not None:
                    return
                old, self._producer = self._producer, self._new()
                unsent, self._unsent = sorted(self._unsent, key=lambda message: message.number), []
                self._broken, self._renewed_at = "", time.monotonic()
                for place, message in enumerate(unsent):
                    try:
                        self._produce(*message)
                    except KafkaException as error:
                        self._unsent += unsent[place:]
                        self._break(error.args[0])
                        break
            del old  # outside of the locks: it ends librdkafka's threads
            _log.warning("Kafka at %s: a new producer, with %d messages of the old one", self._bootstrap, len(unsent))


def _is_fatal(error: KafkaError) -> bool:
    """True if a new producer is needed. produce() raises `_FATAL` without the flag."""
    return error.fatal() or error.code() in OUT_OF_SEQUENCE
