"""Create topics and ask for offsets, by ordinary admin calls of any broker: the embedded one, Kafka, or Redpanda."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from lakehouse.broker.home import RETENTION_MS
from lakehouse.errors import BrokerUnavailableError, SettingError
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

#: The logger to give to Kafka clients, because librdkafka would print to stderr. Silent unless its level is lowered.
librdkafka_log = logging.getLogger("lakehouse.librdkafka")
librdkafka_log.addHandler(logging.NullHandler())
librdkafka_log.propagate = False
librdkafka_log.setLevel(logging.CRITICAL + 1)

#: Most seconds for one admin request.
REQUEST_SECONDS = 10.0

TOPIC_CONFIG = {
    "cleanup.policy": "delete",
    # Ingest must leave the Kafka timestamp at the time of sending: a repaired trade of last month, stamped with its own
    # time, would be past the retention at once.
    "retention.ms": str(RETENTION_MS),
    "message.timestamp.type": "CreateTime",
    "compression.type": "producer",
}

#: Number of replicas of a topic if the cluster has so many brokers: the fewest with which one may be away and no
#: acknowledged message is lost if another dies.
REPLICAS = 3
#: The replication factor by which Kafka takes the cluster's own default.
CLUSTER_DEFAULT = -1

#: Passing errors of a partition's old and new leader, just after a broker died or came back.
LEADER_IS_CHANGING = frozenset(
    {
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)


class Admin:
    """A Kafka AdminClient (`client`) that prints nothing to stderr; `reason` says why it could not connect."""

    def __init__(self, bootstrap: str) -> None:
        reasons: deque[str] = deque(maxlen=1)

        def note(error: KafkaError) -> None:  # No method: a cycle would keep the client's threads until the next gc.
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                reasons.append(error.str())

        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "error_cb": note, "reconnect.backoff.max.ms": 500}
        self._reasons = reasons
        self.client = AdminClient(settings, logger=librdkafka_log)

    @property
    def reason(self) -> str:
        """The last connection error, in librdkafka's words; "no reason given" if there was none."""
        return self._reasons[-1] if self._reasons else "no reason given"

    def metadata(self, timeout: float) -> Any | None:
        """Ask for the cluster's metadata (brokers, topics); None if no broker answers within `timeout` seconds."""
        try:
            metadata = self.client.list_topics(timeout=max(0.1, timeout))
        except KafkaException:
            self.client.poll(0)  # Delivers the reason.
            return None
        return metadata if metadata.brokers else None


def wait_until_ready(bootstrap: str, timeout: float = 30.0) -> None:
    """Wait until a broker answers a metadata request. Raises BrokerUnavailableError after `timeout` seconds."""
    _ready(Admin(bootstrap), bootstrap, timeout)


def cluster_id(bootstrap: str, timeout: float) -> str | None:
    """Return the id of the Kafka cluster that answers at `bootstrap`; None if none does within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    admin = Admin(bootstrap)
    while True:
        metadata = admin.metadata(min(0.5, deadline - time.monotonic()))
        if metadata is not None:
            return str(metadata.cluster_id)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def ensure_topics(
    settings: Settings, bootstrap: str | None = None, timeout: float = 30.0, replication: int | None = None
) -> dict[str, int]:
    """Create those of the settings' three topics that are missing; return topic → number of its partitions.

    A topic that exists keeps its partitions; fewer than the setting's are logged (`add_partitions`). A topic has three
    replicas on three or more brokers, of which two must have a message before it is acknowledged, else the cluster's
    default number; `replication` overrides both.
    Several processes may call this at once.

    Raises BrokerUnavailableError if no broker answers within `timeout` seconds, or if a topic cannot be created or has
    no leaders by then.
    """
    bootstrap = bootstrap or settings.bootstrap()
    wanted = dict.fromkeys(settings.topics, 1) | {settings.topic_trades: settings.topic_partitions}
    admin = Admin(bootstrap)
    deadline = time.monotonic() + timeout
    cluster = _ready(admin, bootstrap, timeout)
    replicas = replication or (REPLICAS if len(cluster.brokers) >= REPLICAS else CLUSTER_DEFAULT)
    config = TOPIC_CONFIG | ({"min.insync.replicas": str(replicas - 1)} if replicas >= REPLICAS else {})
    new = [
        NewTopic(topic, num_partitions=count, replication_factor=replicas, config=config)
        for topic, count in wanted.items()
        if topic not in cluster.topics
    ]
    if new:
        for topic, future in admin.client.create_topics(new, request_timeout=REQUEST_SECONDS).items():
            _created(topic, future)
    counts = _wait_for_leaders(admin, bootstrap, dict.fromkeys(wanted, 1), deadline)
    for topic, count in counts.items():
        if count < wanted[topic]:
            log.warning(
                "topic %s has %d partitions, set are %d; it stays as it is (`topics --partitions %d` adds some)",
                *(topic, count, wanted[topic], wanted[topic]),
            )
    return counts


def add_partitions(settings: Settings, count: int, timeout: float = 30.0) -> None:
    """Give the topic of trades `count` partitions; return if it has so many. An ingest uses them from its next start.

    Raises SettingError if there is no topic or it has more (Kafka removes none), BrokerUnavailableError if no broker
    answers within `timeout` seconds, or if Kafka refuses.
    """
    bootstrap, topic = settings.bootstrap(), settings.topic_trades
    deadline = time.monotonic() + timeout
    admin = Admin(bootstrap)
    found = _ready(admin, bootstrap, timeout).topics.get(topic)
    if found is None:
        raise SettingError(f"no topic {topic} at {bootstrap}", "one that a lakehouse has made")
    if count < len(found.partitions):
        raise SettingError(f"{count} partitions for {topic}", f"{len(found.partitions)} or more: Kafka removes none")
    if count > len(found.partitions):
        request = [NewPartitions(topic, count)]
        try:
            admin.client.create_partitions(request, request_timeout=REQUEST_SECONDS)[topic].result()
        except KafkaException as error:
            raise BrokerUnavailableError(
                f"Kafka did not add partitions to {topic} ({error.args[0].str()})", remedy="try again"
            ) from None
    _wait_for_leaders(admin, bootstrap, {topic: count}, deadline)


def end_offsets(bootstrap: str, topics: Iterable[str], timeout: float = REQUEST_SECONDS) -> dict[str, dict[int, int]]:
    """Return topic → partition → end offset, which the next message will get. A missing topic has no partitions.

    Asks again if a partition's leader has just changed. Raises BrokerUnavailableError if no broker answers within
    `timeout` seconds, or if Kafka answers with another error.
    """
    return _offsets(bootstrap, topics, OffsetSpec.latest(), timeout)  # type: ignore[no-untyped-call]


def first_offsets(bootstrap: str, topics: Iterable[str], timeout: float = REQUEST_SECONDS) -> dict[str, dict[int, int]]:
    """Return topic → partition → offset of the oldest message that is still there, the end offset if there is none.

    A missing topic has no partitions. Raises like `end_offsets`.
    """
    return _offsets(bootstrap, topics, OffsetSpec.earliest(), timeout)  # type: ignore[no-untyped-call]


def offsets_since(bootstrap: str, topics: Iterable[str], since: float, timeout: float) -> dict[str, dict[int, int]]:
    """Return topic → partition → offset of the first message with a Kafka timestamp of `since` or later; -1 if none.

    `since` is in seconds since the epoch. A missing topic has no partitions. Raises like `end_offsets`.
    """
    return _offsets(bootstrap, topics, OffsetSpec.for_timestamp(int(since * 1000)), timeout)


def _offsets(bootstrap: str, topics: Iterable[str], spec: OffsetSpec, timeout: float) -> dict[str, dict[int, int]]:
    admin = Admin(bootstrap)
    deadline = time.monotonic() + timeout
    metadata = _ready(admin, bootstrap, timeout)
    offsets: dict[str, dict[int, int]] = {topic: {} for topic in topics}
    wanted = [
        TopicPartition(topic, partition)
        for topic in offsets
        if topic in metadata.topics
        for partition in metadata.topics[topic].partitions
    ]
    if not wanted:
        return offsets
    request = dict.fromkeys(wanted, spec)
    while True:
        try:
            for partition, future in admin.client.list_offsets(request, request_timeout=timeout).items():
                offsets[partition.topic][partition.partition] = int(future.result().offset)
            return offsets
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() not in LEADER_IS_CHANGING or time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"no offsets from Kafka at {bootstrap} ({cause.str()})", remedy="try again"
                ) from None
        time.sleep(0.1)


def _ready(admin: Admin, bootstrap: str, timeout: float) -> Any:
    """Metadata of a cluster that answers. Raises BrokerUnavailableError."""
    deadline = time.monotonic() + timeout
    while True:
        metadata = admin.metadata(min(2.0, deadline - time.monotonic()))
        if metadata is not None:
            return metadata
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"no Kafka broker answered at {bootstrap} within {timeout:g} s ({admin.reason})",
                "a running broker",
                "start one with `lakehouse broker` or set LAKEHOUSE_BOOTSTRAP_SERVERS",
            )
        time.sleep(0.1)


def _created(topic: str, future: Future[None]) -> None:
    try:
        future.result()
        log.info("created topic %s", topic)
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # Another process was faster.
            raise BrokerUnavailableError(
                f"Kafka did not create topic {topic} ({cause.str()})", remedy="try again"
            ) from None


def _wait_for_leaders(admin: Admin, bootstrap: str, wanted: Mapping[str, int], deadline: float) -> dict[str, int]:
    """Return topic → number of its partitions once each topic has the wanted number at least, all with a leader.

    A request is acknowledged by the controller; clients need the leaders. Raises BrokerUnavailableError.
    """
    while True:
        counts = _partitions_with_leader(admin, wanted)
        missing = ", ".join(sorted(topic for topic, count in wanted.items() if counts.get(topic, 0) < count))
        if not missing:
            return counts
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(f"topics without a leader at {bootstrap}: {missing}", remedy="try again")
        time.sleep(0.05)


def _partitions_with_leader(admin: Admin, wanted: Iterable[str]) -> dict[str, int]:
    metadata = admin.metadata(REQUEST_SECONDS)
    counts: dict[str, int] = {}
    for topic in wanted:
        found = metadata.topics.get(topic) if metadata is not None else None
        if found is not None and found.partitions and all(p.leader >= 0 for p in found.partitions.values()):
            counts[topic] = len(found.partitions)
    return counts
