"""Trace every Kafka message through the tables: each row of Silver names the message that it comes from.

Exactly one of silver/trades, silver/quarantine and silver/feed_events must claim a message of Bronze. A message that
none claims must be a duplicate (`lakehouse.quality.duplicates` proves that). Counts in ops/batches are not used.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from deltalake import DeltaTable

from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.lake.table_io import open_table
from lakehouse.quality.bitmaps import Block, ranges_of, read_blocks, runs
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES

_BRONZE_KEYS = ("topic", '"partition"')
_SILVER_KEYS = ("kafka_topic", "kafka_partition")
#: Tables of Silver whose rows claim messages: each row names the Kafka message that it comes from.
CLAIMANTS = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS)


@dataclass(frozen=True)
class Versions:
    """Delta versions of bronze/messages and of Silver's three tables that are compared with each other."""

    bronze: int
    trades: int
    quarantine: int
    feed_events: int


@dataclass
class PartitionLineage:
    """One Kafka partition: its messages in Bronze (`offsets`) and the tables of Silver that claim them.

    `trades`, `quarantined` and `feed_events` count claimed messages; `unclaimed` are those in no table. `ahead` are
    messages that Bronze holds only after the compared version: their rows come from a batch that was cut and will run
    again. `foreign` are offsets in Silver's rows that Bronze does not have at all.
    """

    topic: str
    partition: int
    bronze_rows: int = 0
    offsets: IdRanges = field(default_factory=IdRanges)
    trades: int = 0
    quarantined: int = 0
    feed_events: int = 0
    unclaimed: IdRanges = field(default_factory=IdRanges)
    #: Rows beyond one for each message, and the offsets at or near which they are.
    surplus_claims: int = 0
    contested: IdRanges = field(default_factory=IdRanges)
    ahead: IdRanges = field(default_factory=IdRanges)
    foreign: IdRanges = field(default_factory=IdRanges)

    @property
    def first(self) -> int | None:
        """The first offset in Bronze; None if it has none."""
        return self.offsets.lowest

    @property
    def last(self) -> int | None:
        """The last offset in Bronze; None if it has none."""
        return self.offsets.highest

    @property
    def missing(self) -> list[IdRange]:
        """Ranges of offsets between the first and the last that Bronze lacks, inclusive."""
        first, last = self.first, self.last
        return [] if first is None or last is None else self.offsets.missing(first, last)

    @property
    def doubled_rows(self) -> int:
        """Number of rows in Bronze minus number of different offsets."""
        return self.bronze_rows - self.offsets.count()

    @property
    def name(self) -> str:
        """Topic and partition, to name them in a sentence."""
        return f"{self.topic} partition {self.partition}"


def trace(settings: Settings, versions: Versions, since: datetime | None = None) -> list[PartitionLineage]:
    """Return the lineage of every Kafka partition, ordered by topic and number: which tables claim its messages.

    With `since`, only messages whose Kafka time is `since` or later count; every table carries that time unchanged.
    """
    numbers = (versions.bronze, versions.trades, versions.quarantine, versions.feed_events)
    tables = [
        open_table(settings, table, version)
        for table, version in zip((BRONZE_MESSAGES, *CLAIMANTS), numbers, strict=True)
    ]
    merged = heapq.merge(*(_tagged(settings, tables[source], source, since) for source in range(4)))
    found: dict[tuple[str, int], PartitionLineage] = {}
    for (key, number), blocks in itertools.groupby(merged, key=lambda tagged: (tagged[0].key, tagged[0].number)):
        topic, partition = key
        lineage = found.setdefault((topic, partition), PartitionLineage(topic, partition))
        _add_block(lineage, number, {source: block for block, source in blocks})
    for lineage in found.values():
        if lineage.foreign:
            _split_ahead(settings, lineage)
    return list(found.values())


def _tagged(settings: Settings, table: DeltaTable, source: int, since: datetime | None) -> Iterator[tuple[Block, int]]:
    where = "TRUE" if since is None else f"ts_kafka >= TIMESTAMP '{since.isoformat()}'"
    if source == 0:
        keys, offset = _BRONZE_KEYS, '"offset"'
        if since is not None:
            where += f" AND ingest_date >= DATE '{since.date().isoformat()}'"
    else:
        keys, offset = _SILVER_KEYS, "kafka_offset"
    for block in read_blocks(settings, table, keys, offset, where):
        yield block, source


def _add_block(lineage: PartitionLineage, number: int, blocks: dict[int, Block]) -> None:
    """Add the 64 offsets of one block, as the four tables have them."""
    bits = [blocks[source].bits if source in blocks else 0 for source in range(4)]
    bronze, trades, quarantined, feed_events = bits
    claimed = trades | quarantined | feed_events
    contested = (trades & quarantined) | (trades & feed_events) | (quarantined & feed_events)
    lineage.bronze_rows += blocks[0].rows if 0 in blocks else 0
    _put(lineage.offsets, number, bronze)
    lineage.trades += (trades & bronze).bit_count()
    lineage.quarantined += (quarantined & bronze & ~trades).bit_count()
    lineage.feed_events += (feed_events & bronze & ~trades & ~quarantined).bit_count()
    _put(lineage.unclaimed, number, bronze & ~claimed)
    _put(lineage.foreign, number, claimed & ~bronze)
    rows = sum(block.rows for source, block in blocks.items() if source)
    if rows > claimed.bit_count():
        lineage.surplus_claims += rows - claimed.bit_count()
        # A bitmap does not show which offset a table has twice, so all of the block's are named.
        _put(lineage.contested, number, contested or claimed)


def _put(ranges: IdRanges, number: int, bits: int) -> None:
    for first, last in runs(number, bits):
        ranges.add(first, last)


def _split_ahead(settings: Settings, lineage: PartitionLineage) -> None:
    """Move the rows whose message the newest Bronze does have from `foreign` to `ahead`."""
    lowest, highest = lineage.foreign.lowest, lineage.foreign.highest
    topic = lineage.topic.replace("'", "''")
    where = f'topic = \'{topic}\' AND "partition" = {lineage.partition} AND "offset" BETWEEN {lowest} AND {highest}'
    newest = ranges_of(read_blocks(settings, open_table(settings, BRONZE_MESSAGES), _BRONZE_KEYS, '"offset"', where))
    for ranges in newest.values():
        for first, last in ranges:
            for part_first, part_last in lineage.foreign.within(first, last):
                lineage.foreign.remove(part_first, part_last)
                lineage.ahead.add(part_first, part_last)
