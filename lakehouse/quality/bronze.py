"""Checks of bronze/messages: the offsets prove that no Kafka message is missing and none is there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

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

#: A batch's messages got their time from their producer so long before its commit, or later. Of what is older, the
#: recent dates tell.
_WAITING = timedelta(minutes=5)

#: Topic and partition.
_Place = tuple[str, int]


@dataclass
class _Partition:
    """Offsets of one Kafka partition that are there; `first` and `end` are those that have to be, `end` exclusive."""

    place: _Place
    first: int
    end: int
    rows: int = 0
    distinct: int = 0

    @property
    def missing(self) -> int:
        """Offsets between the first one and the end that are not there."""
        return self.end - self.first - self.distinct

    @property
    def double(self) -> int:
        """Rows beyond one an offset."""
        return self.rows - self.distinct


@always_a_verdict
def offsets_contiguous(settings: Settings, look: Look) -> CheckResult:
    """Per topic and partition: rows = distinct offsets = last offset − first offset + 1, up to where the ledger says.

    The first offset may be any (Kafka's retention, or a stream that began late). Lately: the offsets of the batches of
    the last minutes; where something is wrong with them, those of the recent dates. A message's date is its producer's
    time, so around midnight offsets and dates can be out of step by a few messages: where something seems missing
    there, the whole table gives the verdict.
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
    """The partitions by each look that may give the verdict, the smallest first."""
    begun: dict[_Place, int] = {}
    if look is not Look.ALL and batch is not None:
        since = batch.committed_at - recent_span(settings)
        if look is Look.DAYS:
            since = min(since, datetime.combine(first_recent_date(), time(), UTC))
        begun = _by_place(source_start_since(settings, "bronze", since) or {})
        if begun:
            where = f"ts_kafka >= TIMESTAMP '{(since - _WAITING).isoformat()}'"
            yield _partitions(settings, where, batch, begun, from_there=True)
    if look is not Look.ALL:
        yield _partitions(settings, where_recent("ingest_date", look), batch, begun)
    yield _partitions(settings, "TRUE", batch, begun)


def _partitions(
    settings: Settings, where: str, batch: Batch | None, begun: Mapping[_Place, int], from_there: bool = False
) -> list[_Partition]:
    """Bronze as the newest batch left it, up to the offset that follows by ops/batches.

    `begun` is where some batches before began, which have left no row of a partition if it has none. `from_there`
    looks only at offsets from there on; else the first offset that is there is the first. Rows beyond the ledger's end
    do not count as missing.
    """
    version = None if batch is None else batch.version_of(BRONZE_MESSAGES.path)
    ends = {} if batch is None else _by_place(batch.source_end)
    found: dict[_Place, _Partition] = {}
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


def _by_place(offsets: Mapping[str, Mapping[str, int]]) -> dict[_Place, int]:
    """Of Spark's form, topic → partition → offset."""
    return {(topic, int(number)): offset for topic, of in offsets.items() for number, offset in of.items()}
