"""Figures of an ingest service at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class VenueStats:
    """One venue at one moment. Counts are trades since the start of the service."""

    venue: str
    connected: bool  #: every socket of it
    subscribed: tuple[str, ...]
    refused: dict[str, str]  #: symbol that the venue does not have → the venue's words
    unsubscribed: dict[str, str]  #: symbol that the venue does not let us have now → why; it is asked for again
    produced: int  #: live trades, duplicates included, and trades of repairs
    acked: int
    duplicates: int
    rejected: int
    gaps: int
    missing: int  #: trade ids in those gaps
    repaired: int  #: of those: fetched over REST, and acknowledged by Kafka
    unavailable: int  #: of those: the venue has them no more
    open_ids: int  #: trade ids missing at this moment
    requests: int  #: to the venue's REST API
    budget_used: float  #: share of the venue's request budget in its window up to now
    rotations: int  #: sockets that took over from another without a break
    reconnects: int
    last_message_age: float | None  #: seconds; None before the first
    last_error: str


@dataclass(frozen=True)
class IngestStats:
    """The service at one moment."""

    venues: tuple[VenueStats, ...]
    unacknowledged: int  #: messages of all kinds, handed over and not yet acknowledged
    metrics_port: int
    kafka_trouble: str = ""  #: why Kafka does not acknowledge, if it does not

    @property
    def produced(self) -> int:
        return sum(venue.produced for venue in self.venues)

    @property
    def acked(self) -> int:
        return sum(venue.acked for venue in self.venues)


def refusals_text(refusals: Mapping[tuple[str, str], str]) -> str:
    """`kraken: XYZ/USD (Currency pair not supported XYZ/USD), …`."""
    return ", ".join(f"{venue}: {symbol} ({words})" for (venue, symbol), words in sorted(refusals.items()))
