"""Proof of the batch history: ops/batches agrees with itself and with the tables.

Every batch balances, its partitions add up to it, and inside a generation it begins where the one before it ended.
Together the batches hold the same messages as the tables. Three exceptions:
- A stream that lost its checkpoint reads its source again: the sums of Silver and Gold are then larger than the tables,
  and only lower bounds are compared.
- A batch that was killed after its tables and before its row, and whose checkpoint was lost before it could run again,
  never gets a row. Its messages are in the tables; they are reported and are not a fault.
- A rebuild is the first entry of its history: it read its source from the beginning, and the stream's generation goes
  on where the rebuild ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lakehouse.audit.batch_history import FIGURES, BatchEntry, Counts
from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.id_ranges import IdRanges
from lakehouse.quality.message_account import Account, named
from lakehouse.quality.model import count_of


@dataclass
class BatchesProof:
    """The batches of one query up to the snapshot, compared with the tables.

    `counts` are the sums of the batches. `generations` counts the checkpoints that the query has had; in Silver and
    Gold each reads its source from the beginning. `without_row` counts rows of the tables that are in no batch.
    `faults` has a sentence for each fault.
    """

    query: str
    batches: int
    generations: int
    counts: Counts
    without_row: int = 0
    faults: list[str] = field(default_factory=list)


def prove_bronze(entries: Sequence[BatchEntry], accounts: Iterable[Account]) -> BatchesProof:
    """Compare Bronze's batches with each other and with the table's offsets; return their sums and all faults.

    A fault is: a batch that does not balance, or does not begin where the one before it ended; a batch that counts
    another number of messages than its offsets; an offset in two batches; an offset of a batch that bronze/messages
    lacks. Offsets of the table that are in no batch are not a fault; `without_row` counts them.
    """
    proof = _balanced("bronze", entries)
    covered: dict[PartitionKey, IdRanges] = {}
    for entry in entries:
        for place, (first, following) in offset_ranges(entry).items():
            counted = (entry.partitions or {}).get(place, Counts()).rows_in
            if following - first != counted:
                proof.faults.append(
                    f"{_place(place)}: {entry.name} read offsets {first} to {following - 1}, "
                    f"and counts {count_of(counted, 'message')}"
                )
            if following > first and (new := covered.setdefault(place, IdRanges()).add(first, following - 1)) != (
                following - first
            ):
                proof.faults.append(
                    f"{_place(place)}: {entry.name} has {following - first - new:,} of the offsets {first} to "
                    f"{following - 1} a second time"
                )
    tables = {(one.lineage.topic, one.lineage.partition): one.lineage.offsets for one in accounts}
    for place in sorted({*tables, *covered}):
        recorded, there = covered.get(place, IdRanges()), tables.get(place, IdRanges())
        lost = _without(recorded, there)
        if lost:
            lacking = f"{count_of(lost.count(), 'message')} that bronze/messages lacks: {named(lost)}"
            proof.faults.append(f"{_place(place)}: ops/batches has {lacking}")
        proof.without_row += _without(there, recorded).count()
    return proof


def prove_silver(entries: Sequence[BatchEntry], accounts: Iterable[Account]) -> BatchesProof:
    """Prove that Silver's batches balance, and that they count for each Kafka partition what the tables hold.

    Trades, proved duplicates, quarantined messages and feed events are compared one by one. After a lost checkpoint the
    batches must only have read no fewer messages and added no more trades than the tables hold.
    """
    proof = _balanced("silver", entries)
    recorded: dict[PartitionKey, Counts] = {}
    for entry in entries:
        for place, counts in (entry.partitions or {}).items():
            recorded[place] = recorded.get(place, Counts()).plus(counts)
    tables = {(one.lineage.topic, one.lineage.partition): _of_tables(one) for one in accounts}
    for place in sorted({*recorded, *tables}):
        counted, there = recorded.get(place, Counts()), tables.get(place, Counts())
        if proof.generations <= 1:
            for name, its, mine in zip(FIGURES, there.figures, counted.figures, strict=True):
                if its != mine:
                    proof.faults.append(
                        f"{_place(place)}: ops/batches of silver has {name} {mine:,}, the tables {its:,}"
                    )
        elif counted.rows_in < there.rows_in or counted.out > there.out:
            proof.faults.append(
                f"{_place(place)}: over {proof.generations} generations ops/batches of silver has {counted.rows_in:,} "
                f"read and {counted.out:,} added, the tables {there.rows_in:,} and {there.out:,}"
            )
        else:
            proof.without_row += there.out - counted.out
    return proof


def prove_gold(entries: Sequence[BatchEntry], trades: int) -> BatchesProof:
    """Prove that Gold's batches follow each other and have read every trade of Silver; `trades` is Silver's number."""
    proof = BatchesProof("gold", len(entries), _generations(entries), _sum(entries))
    proof.faults += _chain(entries)
    read = proof.counts.rows_in
    if read < trades or (read > trades and proof.generations <= 1):
        proof.faults.append(f"ops/batches of gold has {read:,} trades read, silver/trades holds {trades:,}")
    return proof


def offset_ranges(entry: BatchEntry) -> dict[PartitionKey, tuple[int, int]]:
    """Return (topic, partition) → the first offset of a bronze batch and the offset after its last."""
    found: dict[PartitionKey, tuple[int, int]] = {}
    for topic, partitions in entry.end.items():
        for number, following in partitions.items():
            place = topic, int(number)
            counted = (entry.partitions or {}).get(place, Counts()).rows_in
            first = entry.start.get(topic, {}).get(number, following - counted)
            found[place] = int(first), int(following)
    return found


def _balanced(query: str, entries: Sequence[BatchEntry]) -> BatchesProof:
    """Check that every batch balances, as a whole and by partition, and begins where the one before it ended."""
    proof = BatchesProof(query, len(entries), _generations(entries), _sum(entries))
    for entry in entries:
        if entry.counts.balance:
            proof.faults.append(f"{entry.name}: read {entry.counts.rows_in:,}, {entry.counts.balance:+,} unaccounted")
        if entry.partitions is None:
            proof.faults.append(f"{entry.name}: no counts by partition")
            continue
        total = Counts()
        for place, counts in entry.partitions.items():
            total = total.plus(counts)
            if counts.balance:
                proof.faults.append(
                    f"{_place(place)}: {entry.name} read {counts.rows_in:,}, {counts.balance:+,} unaccounted"
                )
        if total != entry.counts:
            proof.faults.append(
                f"{entry.name}: its partitions add up to {total.figures}, its row is {entry.counts.figures}"
            )
    proof.faults += _chain(entries)
    return proof


def _chain(entries: Sequence[BatchEntry]) -> list[str]:
    found: list[str] = []
    last: dict[str, BatchEntry] = {}
    rebuild = entries[0] if entries and entries[0].is_rebuild else None
    for entry in entries:
        before = last.get(entry.generation)
        last[entry.generation] = entry
        if before is None:
            goes_on = rebuild is not None and entry.start == rebuild.end
            if entry.query != "bronze" and not goes_on and not _from_the_beginning(entry):
                found.append(f"{entry.name}: begins at {entry.start}, with no batch before it")
        elif entry.query == "bronze":
            found += _offset_gaps(before, entry)
        elif entry.start != before.end:
            found.append(f"{entry.name}: begins at {entry.start}, the batch before it ended at {before.end}")
    return found


def _offset_gaps(before: BatchEntry, entry: BatchEntry) -> list[str]:
    return [
        f"{topic} partition {number}: {entry.name} begins at offset {begun}, the batch before it ended at {ended}"
        for topic, partitions in before.end.items()
        for number, ended in partitions.items()
        if (begun := entry.start.get(topic, {}).get(number)) != ended
    ]


def _of_tables(account: Account) -> Counts:
    lineage = account.lineage
    return Counts(
        lineage.offsets.count(),
        lineage.trades,
        account.duplicates.proved,
        lineage.quarantined,
        lineage.feed_events,
    )


def _generations(entries: Sequence[BatchEntry]) -> int:
    """Count how often the source was read from its beginning. A stream that goes on after a rebuild belongs to it."""
    first: dict[str, BatchEntry] = {}
    for entry in entries:
        first.setdefault(entry.generation, entry)
    if not entries or not entries[0].is_rebuild:
        return len(first)
    return sum(_from_the_beginning(entry) for entry in first.values())


def _from_the_beginning(entry: BatchEntry) -> bool:
    return int(entry.start.get("version", -1)) == -1


def _sum(entries: Iterable[BatchEntry]) -> Counts:
    total = Counts()
    for entry in entries:
        total = total.plus(entry.counts)
    return total


def _without(some: IdRanges, others: IdRanges) -> IdRanges:
    return IdRanges(part for first, last in some for part in others.missing(first, last))


def _place(place: PartitionKey) -> str:
    return f"{place[0]} partition {place[1]}"
