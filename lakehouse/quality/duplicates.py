"""Prove that a message in none of Silver's tables is a duplicate: Silver has its trade, with the same content.

The messages are read back from Bronze and parsed here, independently of the stream's own parser. A message is lost
(unaccounted for) if it is not a trade, if Silver lacks its trade, or if Silver has the trade with other content.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import open_table, sql_batches
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES

#: Most messages that are held in memory at a time; half a kilobyte each.
CHUNK = 50_000
#: Event times of one trade that differ by less, in microseconds, are the same: a venue's stream and its history may
#: give them in milliseconds and in microseconds.
SAME_TIME_MICROS = 1_000
#: Most unaccounted messages of a partition whose reasons are given; all are counted.
NAMED = 3
#: The year 2200: a message with a later time is no trade, and DataFusion's times end soon after.
_LATEST_MICROS = 7_258_118_400_000_000
#: Most integers that a query lists one by one: a longer list costs its planner more than it saves the scan.
LISTED = 500

#: A partition and an offset in one integer: Kafka will not reach this offset.
_OFFSET_BITS = 44

_OFFSET = '"offset"'

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class TradeContent(msgspec.Struct, frozen=True):
    """Fields in which two messages of the same trade agree. `ts_event` is in microseconds since the epoch."""

    venue: str
    symbol: str
    trade_id: int
    price: Decimal
    size: Decimal
    side: str
    ts_event: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.venue, self.symbol, self.trade_id


@dataclass
class DuplicateProof:
    """One Kafka partition: the number of proved duplicates, and the offsets of the messages that are not duplicates.

    `reasons` has a sentence for each of the first of these, NAMED at most.
    """

    proved: int = 0
    unaccounted: IdRanges = field(default_factory=IdRanges)
    reasons: list[str] = field(default_factory=list)

    def refuse(self, offset: int, reason: str) -> None:
        """Record that the message at an offset is not a duplicate, and why."""
        self.unaccounted.add(offset, offset)
        if len(self.reasons) < NAMED:
            self.reasons.append(f"offset {offset}: {reason}")


#: Lenient about `"1"` for 1, as the stream's parser is.
_decoder = msgspec.json.Decoder(TradeContent, strict=False)


def carries_trades(settings: Settings, topic: str) -> bool:
    """Return True if a topic's messages are trades; messages of other topics cannot be duplicates."""
    return topic not in (settings.topic_rejected, settings.topic_feed_events)


def prove_duplicates(
    settings: Settings, bronze_version: int, trades_version: int, unclaimed: Mapping[PartitionKey, IdRanges]
) -> dict[PartitionKey, DuplicateProof]:
    """Judge for each Kafka partition which of its `unclaimed` offsets are duplicates of trades in silver/trades.

    Both tables are read at the given versions; at most CHUNK messages are in memory at a time.
    """
    proofs = {place: DuplicateProof() for place in unclaimed}
    topics: dict[str, list[int]] = {}
    for (topic, partition), offsets in unclaimed.items():
        if carries_trades(settings, topic):
            topics.setdefault(topic, []).append(partition)
            continue
        for first, last in offsets:
            proofs[topic, partition].unaccounted.add(first, last)
        if offsets:
            proofs[topic, partition].reasons.append(f"offset {offsets.lowest}: no trade, and in no table of Silver")
    bronze = open_table(settings, BRONZE_MESSAGES, bronze_version)
    silver = open_table(settings, SILVER_TRADES, trades_version)
    for topic, partitions in topics.items():
        each = (
            (partition, offset)
            for partition in sorted(partitions)
            for first, last in unclaimed[topic, partition]
            for offset in range(first, last + 1)
        )
        while chunk := list(itertools.islice(each, CHUNK)):
            parsed: dict[tuple[PartitionKey, int], TradeContent] = {}
            for partition, offset, value in _messages(settings, bronze, topic, chunk):
                place = topic, partition
                try:
                    parsed[place, offset] = _read(value)
                except ValueError as error:
                    proofs[place].refuse(offset, f"no readable trade ({error}), and not in quarantine")
            _prove(settings, proofs, parsed, silver)
    return proofs


def _read(value: bytes | None) -> TradeContent:
    """Parse a trade. Raises ValueError if it is none; msgspec's errors are ValueErrors."""
    trade = _decoder.decode(value or b"")
    if not 0 <= trade.ts_event < _LATEST_MICROS:
        raise ValueError(f"ts_event is {trade.ts_event}")
    return trade


def _messages(
    settings: Settings, bronze: DeltaTable, topic: str, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield (partition, offset, value) of the messages with the given partitions and offsets, which ascend."""
    name = topic.replace("'", "''")
    of_partition: dict[int, list[int]] = {}
    for partition, offset in wanted:
        of_partition.setdefault(partition, []).append(offset)
    conditions = (f'"partition" = {one} AND {_among(_OFFSET, offsets)}' for one, offsets in of_partition.items())
    codes = pa.array([(partition << _OFFSET_BITS) + offset for partition, offset in wanted], pa.int64())
    batches = sql_batches(
        settings,
        f"""
        SELECT "partition" AS part, "offset" AS place, value_raw,
               (CAST("partition" AS BIGINT) << {_OFFSET_BITS}) + "offset" AS code
        FROM messages WHERE topic = '{name}' AND ({" OR ".join(f"({one})" for one in conditions)})
        """,
        messages=bronze,
    )
    for batch in batches:
        kept = _only(batch, "code", codes)
        yield from zip(*(kept[column].to_pylist() for column in ("part", "place", "value_raw")), strict=True)


def _prove(
    settings: Settings,
    proofs: dict[PartitionKey, DuplicateProof],
    parsed: dict[tuple[PartitionKey, int], TradeContent],
    silver: DeltaTable,
) -> None:
    """Compare with Silver's rows of nearly the same time, so that few files are read; then the rest with all rows."""
    times = [trade.ts_event for trade in parsed.values()]
    doubtful: dict[tuple[PartitionKey, int], TradeContent] = {}
    if times:
        between = f"ts_event BETWEEN {_moment(min(times) - 1_000)} AND {_moment(max(times) + 1_000)}"
        there = _contents(settings, silver, parsed.values(), between)
        for message, trade in parsed.items():
            if trade.key in there and unlike(trade, there[trade.key]) is None:
                proofs[message[0]].proved += 1
            else:
                doubtful[message] = trade
    if not doubtful:
        return
    there = _contents(settings, silver, doubtful.values(), "TRUE")
    for (place, offset), trade in sorted(doubtful.items(), key=lambda item: item[0]):
        proof = proofs[place]
        name = f"{trade.venue} {trade.symbol} trade {trade.trade_id}"
        found = there.get(trade.key)
        difference = None if found is None else unlike(trade, found)
        if found is None:
            proof.refuse(offset, f"{name} is not in silver/trades")
        elif difference is not None:
            proof.refuse(offset, f"{name} is in silver/trades with another {difference}, and not in quarantine")
        else:
            proof.proved += 1


def unlike(trade: TradeContent, kept: TradeContent) -> str | None:
    """Name the first field in which two trades of the same id differ, with both values; None if they are the same.

    Event times less than SAME_TIME_MICROS apart are the same.
    """
    for name in ("price", "size", "side"):
        if getattr(trade, name) != getattr(kept, name):
            return f"{name} ({getattr(kept, name)}, not {getattr(trade, name)})"
    if abs(trade.ts_event - kept.ts_event) >= SAME_TIME_MICROS:
        return f"ts_event ({kept.ts_event}, not {trade.ts_event})"
    return None


def _contents(
    settings: Settings, silver: DeltaTable, trades: Collection[TradeContent], where: str
) -> dict[tuple[str, str, int], TradeContent]:
    """Read Silver's trades with the keys of the given ones, among the rows that meet a condition."""
    ids = sorted({trade.trade_id for trade in trades})
    keys = {trade.key for trade in trades}
    wanted = pa.array(ids, pa.int64())
    found: dict[tuple[str, str, int], TradeContent] = {}
    for batch in sql_batches(
        settings,
        f"""
        SELECT venue, symbol, trade_id, price, size, side, ts_event FROM trades
        WHERE {where} AND {_among("trade_id", ids)}
        """,
        trades=silver,
    ):
        for row in _only(batch, "trade_id", wanted).to_pylist():
            if (row["venue"], row["symbol"], row["trade_id"]) in keys:
                content = TradeContent(**row | {"ts_event": (row["ts_event"] - _EPOCH) // _MICROSECOND})
                found[content.key] = content
    return found


def _only(batch: pa.RecordBatch, column: str, integers: pa.Array[Any]) -> pa.Table:
    """Keep the rows whose integer is one of the given ones."""
    mask = pc.is_in(batch.column(column), integers)
    if not pc.any(mask).as_py():
        return pa.Table.from_batches([batch.slice(0, 0)])
    table = pa.Table.from_batches([batch])
    # DataFusion hands out views of strings and bytes, which pyarrow cannot filter.
    plain: dict[Any, Any] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    schema = pa.schema([(field.name, plain.get(field.type, field.type)) for field in table.schema])
    return table.cast(schema).filter(mask)


def _among(column: str, integers: list[int]) -> str:
    """Write a condition that keeps at least the given integers, which ascend, and spares the scan most others."""
    if len(integers) <= LISTED:
        return f"{column} IN ({', '.join(map(str, integers))})"
    return f"{column} BETWEEN {integers[0]} AND {integers[-1]}"


def _moment(microseconds: int) -> str:
    return f"TIMESTAMP '{(_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat()}'"
