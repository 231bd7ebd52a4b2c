"""ops/batches held against itself and against the tables.

Every batch balances, its partitions add up to it, and inside a generation it begins where the one before it ended. Over
all of them the books hold what the tables hold. A stream that lost its checkpoint reads its source again: the books of
Silver and Gold are then larger than the tables, and only what can be compared is. A batch that was killed after its
tables and before its row, and whose checkpoint was lost before it could run again, is without a row for ever: such
messages are in the tables, and are named, not counted as a fault. A rebuild is the first entry of its books: it read
its source from the beginning, and the stream's generation goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lakehouse.audit.batch_history import FIGURES, Counts, Entry
from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.id_ranges import IdRanges
from lakehouse.quality.message_account import Account, named
from lakehouse.quality.model import count_of


@dataclass
class BatchesProof:
    """The books of one query up to the snapshot. `without_row`: messages or trades in the tables and in no batch."""

    query: str
    batches: int
    generations: int
    counts: Counts
    without_row: int = 0
    faults: list[str] = field(default_factory=list)


def bronze_books(entries: Sequence[Entry], accounts: Iterable[Account]) -> BatchesProof:
    """Bronze: the batches' offsets follow each other and are the table's."""
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
        booked, there = covered.get(place, IdRanges()), tables.get(place, IdRanges())
        lost = _without(booked, there)
        if lost:
            lacking = f"{count_of(lost.count(), 'message')} that bronze/messages lacks: {named(lost)}"
            proof.faults.append(f"{_place(place)}: ops/batches has {lacking}")
        proof.without_row += _without(there, booked).count()
    return proof


def silver_books(entries: Sequence[Entry], accounts: Iterable[Account]) -> BatchesProof:
    """Silver: by partition the books are what became of each message, by the tables."""
    proof = _balanced("silver", entries)
    booked: dict[PartitionKey, Counts] = {}
    for entry in entries:
        for place, counts in (entry.partitions or {}).items():
            booked[place] = booked.get(place, Counts()).plus(counts)
    tables = {(one.lineage.topic, one.lineage.partition): _of_tables(one) for one in accounts}
    for place in sorted({*booked, *tables}):
        books, there = booked.get(place, Counts()), tables.get(place, Counts())
        if proof.generations <= 1:
            for name, its, mine in zip(FIGURES, there.figures, books.figures, strict=True):
                if its != mine:
                    proof.faults.append(
                        f"{_place(place)}: ops/batches of silver has {name} {mine:,}, the tables {its:,}"
                    )
        elif books.rows_in < there.rows_in or books.out > there.out:
            proof.faults.append(
                f"{_place(place)}: over {proof.generations} generations ops/batches of silver has {books.rows_in:,} "
                f"read and {books.out:,} added, the tables {there.rows_in:,} and {there.out:,}"
            )
        else:
            proof.without_row += there.out - books.out
    return proof


def gold_books(entries: Sequence[Entry], trades: int) -> BatchesProof:
    """Gold: the batches read every trade of Silver."""
    proof = BatchesProof("gold", len(entries), _generations(entries), _sum(entries))
    proof.faults += _chain(entries)
    read = proof.counts.rows_in
    if read < trades or (read > trades and proof.generations <= 1):
        proof.faults.append(f"ops/batches of gold has {read:,} trades read, silver/trades holds {trades:,}")
    return proof


def offset_ranges(entry: Entry) -> dict[PartitionKey, tuple[int, int]]:
    """Kafka place → first offset of a bronze batch, and the one behind its last."""
    found: dict[PartitionKey, tuple[int, int]] = {}
    for topic, partitions in entry.end.items():
        for number, following in partitions.items():
            place = topic, int(number)
            counted = (entry.partitions or {}).get(place, Counts()).rows_in
            first = entry.start.get(topic, {}).get(number, following - counted)
            found[place] = int(first), int(following)
    return found


def _balanced(query: str, entries: Sequence[Entry]) -> BatchesProof:
    """Every batch balances, in all and by partition, and begins where the one before it ended."""
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


def _chain(entries: Sequence[Entry]) -> list[str]:
    found: list[str] = []
    last: dict[str, Entry] = {}
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


def _offset_gaps(before: Entry, entry: Entry) -> list[str]:
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


def _generations(entries: Sequence[Entry]) -> int:
    """How often the source was read from its beginning; what goes on behind a rebuild is the rebuild's generation."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.generation, entry)
    if not entries or not entries[0].is_rebuild:
        return len(first)
    return sum(_from_the_beginning(entry) for entry in first.values())


def _from_the_beginning(entry: Entry) -> bool:
    return int(entry.start.get("version", -1)) == -1


def _sum(entries: Iterable[Entry]) -> Counts:
    total = Counts()
    for entry in entries:
        total = total.plus(entry.counts)
    return total


def _without(some: IdRanges, others: IdRanges) -> IdRanges:
    return IdRanges(part for first, last in some for part in others.missing(first, last))


def _place(place: PartitionKey) -> str:
    return f"{place[0]} partition {place[1]}"
