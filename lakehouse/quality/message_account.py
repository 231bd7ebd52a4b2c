"""Account for every Kafka message: one table of Silver claims it, or it is a proven duplicate, or it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lakehouse.id_ranges import IdRanges
from lakehouse.quality.duplicates import DuplicateProof, prove_duplicates
from lakehouse.quality.message_lineage import PartitionLineage, Versions, trace
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings

#: Ranges of offsets that a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class Account:
    """Account of the messages of one Kafka partition: what became of each, by the tables alone.

    `lineage`: the tables of Silver that claim them. `duplicates`: the proof for the messages that no table claims.
    """

    lineage: PartitionLineage
    duplicates: DuplicateProof

    @property
    def name(self) -> str:
        """Topic and partition, to name them in a sentence."""
        return self.lineage.name

    def faults(self) -> Iterator[str]:
        """Yield a sentence for each kind of fault; none if Bronze = Silver + duplicates + quarantined + feed events.

        The kinds: messages that no table claims, messages that several rows claim, and rows of Silver whose message
        Bronze lacks.
        """
        lineage, unaccounted = self.lineage, self.duplicates.unaccounted
        if unaccounted:
            reasons = "; ".join(self.duplicates.reasons)
            yield f"{self.name}: {count_of(unaccounted.count(), 'message')} unaccounted for: {reasons}"
        if lineage.surplus_claims:
            yield (
                f"{self.name}: {count_of(lineage.surplus_claims, 'row')} of Silver's tables beyond one a message, "
                f"at or near offsets {named(lineage.contested)}"
            )
        if lineage.foreign:
            unknown = f"{count_of(lineage.foreign.count(), 'offset')} that Bronze does not have"
            yield f"{self.name}: rows of Silver's tables name {unknown}: {named(lineage.foreign)}"


def account(settings: Settings, versions: Versions, since: datetime | None = None) -> list[Account]:
    """Account for the messages of every Kafka partition, ordered by topic and number, at versions of the tables.

    With `since`, only messages whose Kafka time is `since` or later count.
    """
    lineages = trace(settings, versions, since)
    unclaimed = {(one.topic, one.partition): one.unclaimed for one in lineages}
    proofs = prove_duplicates(settings, versions.bronze, versions.trades, unclaimed)
    return [Account(one, proofs[one.topic, one.partition]) for one in lineages]


def named(ranges: IdRanges | list[tuple[int, int]]) -> str:
    """Return the first three ranges as text for a sentence: `5, 7–9, …`."""
    every = list(ranges)
    texts = [str(first) if first == last else f"{first}–{last}" for first, last in every[:_NAMED]]
    return ", ".join([*texts, "…"] if len(every) > _NAMED else texts)
