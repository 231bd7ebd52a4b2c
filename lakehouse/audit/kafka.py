"""What Kafka itself holds: the first and the next offset of each partition, where a broker answers."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from lakehouse.broker.topics import Admin
from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake.lag import end_offsets
from lakehouse.settings import Settings

#: Seconds that a broker has to answer each question; a local one needs 0.05.
BROKER_SECONDS = 5.0


@dataclass(frozen=True)
class KafkaOffsets:
    """One partition: the first offset that Kafka still has, and the one that the next message will get."""

    first: int
    next: int


def read_offsets(settings: Settings) -> dict[tuple[str, int], KafkaOffsets]:
    """(topic, partition) → its offsets. Raises BrokerUnavailableError where no broker answers."""
    bootstrap = settings.bootstrap()
    ends = end_offsets(bootstrap, settings.topics, BROKER_SECONDS)
    places = [TopicPartition(topic, int(number)) for topic, numbers in ends.items() for number in numbers]
    if not places:
        return {}
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    found: dict[tuple[str, int], KafkaOffsets] = {}
    admin = Admin(bootstrap)  # kept: the answers come to a client that lives
    try:
        futures = admin.client.list_offsets(dict.fromkeys(places, earliest), request_timeout=BROKER_SECONDS)
        for place, future in futures.items():
            first = int(future.result(2 * BROKER_SECONDS).offset)
            found[place.topic, place.partition] = KafkaOffsets(first, ends[place.topic][str(place.partition)])
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        raise BrokerUnavailableError(
            f"no first offsets from Kafka at {bootstrap} ({reason})", remedy="try again"
        ) from None
    return found
