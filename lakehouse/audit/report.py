"""Result of an audit: figures and sentences only, ready for JSON. `printer` prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from lakehouse.audit.bars import BarsProof
from lakehouse.audit.batches import BatchesProof
from lakehouse.audit.conservation import PartitionProof
from lakehouse.audit.gaps import GapsProof
from lakehouse.audit.simulated import SimulatedProof


@dataclass(frozen=True)
class Versions:
    """Delta versions of the tables that were compared; `bars` maps each table of bars to its version.

    `snapshot_at` is the commit time of the snapshot's Gold batch, UTC.
    """

    snapshot_at: datetime
    bronze: int
    trades: int
    quarantine: int
    feed_events: int
    continuity: int
    bars: dict[str, int]


@dataclass(frozen=True)
class RuleCount:
    """Number of messages that failed one rule, and how many of them are still open."""

    rule: str
    messages: int
    open: int


@dataclass
class Report:
    """Result of one audit, which took `seconds`, with the proofs of all parts; `books` are the proofs of ops/batches.

    `faults` say why the lake is not exact, one sentence each; `notes` are other remarks and are not faults.
    """

    home: str
    taken_at: datetime
    seconds: float
    kafka: str
    versions: Versions
    partitions: list[PartitionProof]
    silver_rows: int
    bars: list[BarsProof]
    holes: GapsProof  # named as its JSON key, like `books`
    quarantine: list[RuleCount]
    books: list[BatchesProof]
    simulated: SimulatedProof | None
    #: Messages in Kafka that the snapshot does not have yet; None if no broker answered.
    messages_not_yet: int | None
    #: Rows of silver/trades that have been added since the snapshot.
    rows_not_yet: int
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """True if the audit found no fault."""
        return not self.faults

    def total(self, figure: str) -> int:
        """Return the sum of a figure of PartitionProof, such as `trades`, over all Kafka partitions."""
        return sum(getattr(partition, figure) for partition in self.partitions)


def to_json(report: Report) -> str:
    """Return the report as one JSON object, with the verdict under `exact`."""
    found = msgspec.to_builtins(report)
    return msgspec.json.format(msgspec.json.encode({"exact": report.exact, **found}), indent=2).decode()
