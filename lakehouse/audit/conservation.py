"""Proof of conservation at the audit's snapshot, by Kafka partition, compared with Kafka's own offsets.

Kafka = Bronze = Silver + duplicates + quarantined + feed events, counted from the tables at one set of versions. The
checks in `lakehouse.quality.conservation` run all the time beside the streams, without Kafka: `nothing_dropped` adds up
the counts of ops/batches, `conserved_by_lineage` accounts for messages by the tables like this proof, and
`trades_conserved` compares Gold's bars with Silver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lakehouse.broker.topics import first_offsets
from lakehouse.lake.lag import end_offsets
from lakehouse.quality.message_account import Account, named
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings

#: Value of the setting with which Bronze begins at the first message that Kafka has.
_FROM_THE_START = "earliest"
#: Seconds that a broker has to answer each question; a local one needs 0.05.
BROKER_SECONDS = 5.0


@dataclass(frozen=True)
class KafkaOffsets:
    """One partition: the first offset that Kafka still has, and the offset that the next message will get."""

    first: int
    next: int


@dataclass(frozen=True)
class PartitionProof:
    """Figures of one Kafka partition at the snapshot.

    `kafka_first` is the first offset that Kafka still has, `kafka_next` the offset that the next message will get, and
    `not_yet` counts the messages in Kafka after the last one in Bronze; all are None if no broker answered. `first` and
    `last` are offsets in Bronze, None if it has none; `bronze_rows` counts its rows, `messages` its different offsets,
    and `missing` the offsets that it lacks between first and last. `trades`, `quarantined` and `feed_events` count
    messages in Silver's tables, `duplicates` those that are proved to repeat a trade in Silver. `unaccounted` messages
    are lost; `ahead` counts messages that are in Silver by a batch that was cut and will run again.
    """

    topic: str
    partition: int
    kafka_first: int | None
    kafka_next: int | None
    not_yet: int | None
    first: int | None
    last: int | None
    bronze_rows: int
    messages: int
    missing: int
    trades: int
    duplicates: int
    quarantined: int
    feed_events: int
    unaccounted: int
    ahead: int

    @property
    def name(self) -> str:
        """Topic and partition, to name them in a sentence."""
        return f"{self.topic} partition {self.partition}"


def read_offsets(settings: Settings) -> dict[tuple[str, int], KafkaOffsets]:
    """Ask Kafka for the first and the next offset of each (topic, partition) of the settings' topics.

    Raises BrokerUnavailableError if no broker answers within some BROKER_SECONDS.
    """
    bootstrap = settings.bootstrap()
    ends = end_offsets(bootstrap, settings.topics, BROKER_SECONDS)
    firsts = first_offsets(bootstrap, settings.topics, BROKER_SECONDS)
    return {
        (topic, int(partition)): KafkaOffsets(firsts[topic][int(partition)], end)
        for topic, partitions in ends.items()
        for partition, end in partitions.items()
    }


def prove(account: Account, kafka: KafkaOffsets | None) -> PartitionProof:
    """Return the figures of one Kafka partition from the account of its messages and Kafka's offsets (if known)."""
    lineage = account.lineage
    following = 0 if lineage.last is None else lineage.last + 1
    return PartitionProof(
        topic=lineage.topic,
        partition=lineage.partition,
        kafka_first=kafka.first if kafka else None,
        kafka_next=kafka.next if kafka else None,
        not_yet=max(0, kafka.next - max(following, kafka.first)) if kafka else None,
        first=lineage.first,
        last=lineage.last,
        bronze_rows=lineage.bronze_rows,
        messages=lineage.offsets.count(),
        missing=sum(last - first + 1 for first, last in lineage.missing),
        trades=lineage.trades,
        duplicates=account.duplicates.proved,
        quarantined=lineage.quarantined,
        feed_events=lineage.feed_events,
        unaccounted=account.duplicates.unaccounted.count(),
        ahead=lineage.ahead.count(),
    )


def faults(settings: Settings, account: Account, proof: PartitionProof) -> Iterator[str]:
    """Yield a sentence for each fault of one Kafka partition; none if its messages are conserved.

    The faults: offsets that Bronze lacks or has twice, offsets that Kafka never had or Bronze did not begin at, and the
    faults of the account.
    """
    lineage = account.lineage
    if proof.missing:
        yield f"{proof.name}: {count_of(proof.missing, 'offset')} missing in bronze/messages: {named(lineage.missing)}"
    if lineage.doubled_rows:
        yield f"{proof.name}: {count_of(lineage.doubled_rows, 'row')} of bronze/messages beyond one an offset"
    if proof.kafka_first is not None and proof.kafka_next is not None:
        if proof.last is not None and proof.last >= proof.kafka_next:
            yield (
                f"{proof.name}: bronze/messages has offsets up to {proof.last}, Kafka only up to "
                f"{proof.kafka_next - 1}: Kafka lost messages, or is another cluster"
            )
        if settings.starting_offsets == _FROM_THE_START and proof.first is not None and proof.kafka_first < proof.first:
            yield (
                f"{proof.name}: Kafka still has offsets from {proof.kafka_first}, bronze/messages begins at "
                f"{proof.first}"
            )
    yield from account.faults()


def unread(kafka: Mapping[tuple[str, int], KafkaOffsets], accounts: list[Account]) -> list[PartitionProof]:
    """Return the proofs of the partitions that Kafka has and no table knows: no message of them has been read yet."""
    known = {(one.lineage.topic, one.lineage.partition) for one in accounts}
    return [
        PartitionProof(*place, offsets.first, offsets.next, offsets.next - offsets.first, None, None, *(0,) * 9)
        for place, offsets in sorted(kafka.items())
        if place not in known
    ]
