"""The counts and states of an ingest service at one moment, by venue (`IngestService.stats`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class VenueStats:
    """The state of one venue at one moment. Counts are since the start of the service."""

    venue: str
    connected: bool  #: True if every feed of the venue has a connection
    subscribed: tuple[str, ...]
    refused: dict[str, str]  #: symbol that the venue does not list → the venue's words
    unsubscribed: dict[str, str]  #: symbol that the venue does not let us have now → why; it is asked for again
    produced: int  #: trades handed to the producer: live ones, duplicates included, and those of repairs
    acked: int  #: trades that Kafka has acknowledged
    duplicates: int
    rejected: int
    gaps: int
    missing: int  #: trade ids in those gaps
    repaired: int  #: missing ids that were fetched over REST and acknowledged by Kafka
    unavailable: int  #: missing ids that the venue lacks
    open_ids: int  #: trade ids missing at this moment
    requests: int  #: requests to the venue's REST API
    budget_used: float  #: share of the venue's request budget in its window up to now
    rotations: int  #: sockets that took over from another without a break
    reconnects: int
    last_message_age: float | None  #: seconds since the last frame of any kind; None before the first
    last_error: str


@dataclass(frozen=True)
class IngestStats:
    """The state of an ingest service at one moment."""

    venues: tuple[VenueStats, ...]
    unacknowledged: int  #: messages of all kinds, handed to the producer and not yet acknowledged by Kafka
    metrics_port: int
    kafka_trouble: str = ""  #: why Kafka does not acknowledge, if it does not

    @property
    def produced(self) -> int:
        return sum(venue.produced for venue in self.venues)

    @property
    def acked(self) -> int:
        return sum(venue.acked for venue in self.venues)


def refusals_text(refusals: Mapping[tuple[str, str], str]) -> str:
    """Return (venue, symbol) → words as one line: `kraken: XYZ/USD (Currency pair not supported XYZ/USD), …`."""
    return ", ".join(f"{venue}: {symbol} ({words})" for (venue, symbol), words in sorted(refusals.items()))
