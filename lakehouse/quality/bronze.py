"""Checks of bronze/messages: the offsets prove that no Kafka message is missing and none is there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.lake.batch_log import Batch, newest_batches, source_start_since
from lakehouse.lake.table_io import open_table
from lakehouse.quality.bitmaps import WIDTH, read_blocks
from lakehouse.quality.model import (
    CheckResult,
    Figure,
    Look,
    always_a_verdict,
    count_of,
    first_recent_date,
    recent_span,
    where_recent,
)
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES

#: Longest time from a message's producer time to the commit of its batch; the look at recent dates covers older ones.
_WAITING = timedelta(minutes=5)


@dataclass
class _Partition:
    """Offsets of one Kafka partition. All from `first` to `end` (exclusive) must be there; `distinct` of them are."""

    place: PartitionKey
    first: int
    end: int
    rows: int = 0
    distinct: int = 0

    @property
    def missing(self) -> int:
        """Number of offsets from `first` to `end` that are not there."""
        return self.end - self.first - self.distinct

    @property
    def double(self) -> int:
        """Number of rows beyond one for each offset."""
        return self.rows - self.distinct


@always_a_verdict
def offsets_contiguous(settings: Settings, look: Look) -> CheckResult:
    """Check for each Kafka partition that Bronze has every offset from its first to the newest batch's end, once.

    The first offset may be any (Kafka's retention, or a stream that began late). Look.LATELY takes the offsets of the
    batches committed in the last minutes, Look.DAYS those of the batches since the beginning of yesterday (UTC). If an
    offset seems missing or double there, the look widens: to all messages dated yesterday and today, then to the whole
    table, which gives the verdict. A message's date is its producer's time, so around midnight offsets and dates can be
    out of step by a few messages.
    """
    open_table(settings, BRONZE_MESSAGES)
    batch = newest_batches(settings).get("bronze")
    partitions: list[_Partition] = []
    for partitions in _looks(settings, look, batch):  # the last look gives the verdict
        if not any(one.missing or one.double for one in partitions):
            break
    rows = sum(one.rows for one in partitions)
    missing = sum(one.missing for one in partitions)
    double = sum(one.double for one in partitions)
    figures: dict[str, Figure] = {
        "rows": rows,
        "partitions": len(partitions),
        "missing_offsets": missing,
        "double_offsets": double,
    }
    if missing or double:
        worst = max(partitions, key=lambda one: one.missing + one.double)
        return CheckResult(
            False,
            f"Offsets missing: {missing:,}; offsets there twice: {double:,}; most of them in {worst.place[0]} "
            f"partition {worst.place[1]} between offsets {worst.first} and {worst.end - 1}.",
            figures,
        )
    return CheckResult(
        True,
        f"All offsets of {count_of(len(partitions), 'Kafka partition')} are there once: {count_of(rows, 'message')}.",
        figures,
    )


def _looks(settings: Settings, look: Look, batch: Batch | None) -> Iterator[list[_Partition]]:
    """Yield the partitions as each look finds them, the cheapest look first."""
    begun: dict[PartitionKey, int] = {}
    if look is not Look.ALL and batch is not None:
        since = batch.committed_at - recent_span(settings)
        if look is Look.DAYS:
            since = min(since, datetime.combine(first_recent_date(), time(), UTC))
        begun = _by_partition(source_start_since(settings, "bronze", since) or {})
        if begun:
            where = f"ts_kafka >= TIMESTAMP '{(since - _WAITING).isoformat()}'"
            yield _partitions(settings, where, batch, begun, from_there=True)
    if look is not Look.ALL:
        yield _partitions(settings, where_recent("ingest_date", look), batch, begun)
    yield _partitions(settings, "TRUE", batch, begun)


def _partitions(
    settings: Settings, where: str, batch: Batch | None, begun: Mapping[PartitionKey, int], from_there: bool = False
) -> list[_Partition]:
    """Read Bronze as the newest batch left it, up to the next offset that ops/batches names.

    `begun` maps partitions to the offset at which some earlier batches began; a partition with an entry and no row
    lacks all of them. With `from_there` only offsets from there on count; else the first offset that is there is the
    first. Rows beyond the newest batch's end do not count as missing.
    """
    version = None if batch is None else batch.version_of(BRONZE_MESSAGES.path)
    ends = {} if batch is None else _by_partition(batch.source_end)
    found: dict[PartitionKey, _Partition] = {}
    keys = ("topic", '"partition"')
    for block in read_blocks(settings, open_table(settings, BRONZE_MESSAGES, version), keys, '"offset"', where):
        place, base, bits = (block.key[0], block.key[1]), block.number * WIDTH, block.bits
        first = begun.get(place) if from_there else None
        if first is not None:
            bits &= ~0 << max(0, first - base)
        if not bits:
            continue
        lowest, highest = base + (bits & -bits).bit_length() - 1, base + bits.bit_length() - 1
        one = found.setdefault(place, _Partition(place, lowest if first is None else first, lowest))
        one.end = max(one.end, highest + 1)
        one.distinct += bits.bit_count()
        one.rows += block.rows - (block.distinct - bits.bit_count())
    for place, end in ends.items():
        if place in found:
            found[place].end = max(found[place].end, end)
        elif begun.get(place, end) < end:
            found[place] = _Partition(place, begun[place], end)
    return [found[place] for place in sorted(found)]


def _by_partition(offsets: Mapping[str, Mapping[str, int]]) -> dict[PartitionKey, int]:
    """Flatten Spark's form, topic → partition → offset."""
    return {(topic, int(number)): offset for topic, of in offsets.items() for number, offset in of.items()}
