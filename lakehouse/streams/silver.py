"""bronze/messages → silver/trades, silver/quarantine, silver/feed_events, silver/continuity.

Guarantee: each trade once, however late it comes again. The ledger knows every id that is in the table; a batch appends
the others and nothing else. So a batch that runs again, a replayed topic, a repair a month later and a lost checkpoint
add nothing. The table gets inserts only, so that Gold can stream from it. Every message ends in exactly one of: a
trade, a duplicate, a feed event, a row in quarantine; if an id comes again with other content, the first one stays and
the other goes to quarantine.
Two writers at once cannot double anything either: all appends share one Delta transaction id, so the second of two that
know the same state of the table fails, and starts again with the ledger of the first.
Spark decides what a batch holds; its rows are handled as Arrow in this process (docs/adr/0008).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_files, batch_plan, dedup
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, rows_by_place
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.silver_commits import append_trades, merge_by_offset
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from lakehouse.transforms import wire
from lakehouse.transforms.arrow_numpy import kept
from lakehouse.transforms.batch_ids import BatchIds, BatchRange
from lakehouse.transforms.message_judge import Judged, judge, quarantine_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Size of Bronze's files up to which a batch takes more of them: enough work for a catch-up, not too much memory.
MAX_BYTES_PER_TRIGGER = "64m"

#: The columns of bronze/messages that a batch needs.
_COLUMNS = (*wire.COLUMNS, "key", "ingest_date")


@dataclass
class _Outcome:
    """Counts of a batch's trades that were inserted and that conflict, by Kafka partition, and the ids that are new."""

    inserted: dict[PartitionKey, int] = field(default_factory=dict)
    conflicts: dict[PartitionKey, int] = field(default_factory=dict)
    arrived: Sequence[BatchRange] = ()


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """Return Spark's Delta source of bronze/messages.

    From here on the messages that this process writes are judged at once (`batch_files.expect`).
    """
    batch_files.expect(context.settings, BRONZE_MESSAGES, _COLUMNS, partial(_judged, settings=context.settings))
    context.checkpoint.begin_at_creation(table_io.open_table(context.settings, BRONZE_MESSAGES).version())
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .options(**context.checkpoint.begin_options())
        .load(table_io.table_uri(context.settings, BRONZE_MESSAGES))
    )


def write_batch(batch_id: int, context: BatchContext, ledger: Ledger) -> BatchResult:
    """Write one batch and return its result.

    Order: the new trades, the repeats that conflict, other messages in quarantine, feed events, the ledger. Raises
    OtherWriterError if another writer has written to silver/trades.
    """
    settings = context.settings
    files = batch_plan.delta_files(context.checkpoint, batch_id, settings, BRONZE_MESSAGES)
    batch = _taken(files, settings)
    outcome = _take_trades(batch.trades, files, batch_id == context.pending_batch, settings, ledger)
    news = _news(outcome.arrived)
    if batch.quarantine.num_rows:
        merge_by_offset(batch.quarantine, SILVER_QUARANTINE, settings)
    if batch.feed_events.num_rows:
        merge_by_offset(batch.feed_events, SILVER_FEED_EVENTS, settings)
        add_words(news, batch.feed_events)
    ledger.take(news, table_io.open_table(settings, SILVER_TRADES).version())
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    return BatchResult.of_partitions(
        _ends(batch, outcome),
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=delta_position(context.checkpoint.offset(batch_id)),
        versions={table.path: table_io.open_table(settings, table).version() for table in tables},
    )


def _taken(files: Sequence[str], settings: Settings) -> Judged:
    """Read and judge the messages of a batch."""
    work = partial(_judged, settings=settings)
    made = [tables for _, tables in batch_files.made_of(settings, BRONZE_MESSAGES, files, _COLUMNS, work)]
    none = Judged.of_nothing()
    return Judged(*(pa.concat_tables([empty, *parts]) for empty, *parts in zip(none, *made, strict=True)))


def _judged(chunk: pa.Table, settings: Settings) -> Judged:
    """Judge a chunk of a file: its plain trades are recognised, the other messages are judged one by one."""
    if chunk.column("topic")[0].as_py() != settings.topic_trades:  # a file is of one topic
        return judge(chunk, settings)
    found = wire.recognise(chunk.select(wire.COLUMNS), settings)
    trades = found.trades.cast(table_io.arrow_schema(SILVER_TRADES))
    if not found.left.any():
        return Judged.of_nothing()._replace(trades=trades)
    others = judge(chunk.filter(pa.array(found.left)), settings)
    return others._replace(trades=pa.concat_tables([trades, others.trades]))


def _take_trades(trades: pa.Table, files: Sequence[str], pending: bool, settings: Settings, ledger: Ledger) -> _Outcome:
    """Append the trades that are new, put those that conflict into quarantine, and count both.

    `files` are the batch's, of bronze/messages. `pending` is true if an earlier process planned the batch and may have
    run a part of it.
    """
    if not trades.num_rows:
        return _Outcome()
    arrivals = BatchIds(trades)
    seen = arrivals.within(lambda key, first, last: ledger.present(key).within(first, last))
    new = arrivals.first & ~seen
    fresh = kept(trades, new)
    outcome = _Outcome()
    if fresh.num_rows:
        append_trades(fresh, settings, ledger.trades_version)
        outcome.arrived = (arrivals if fresh is trades else BatchIds(fresh)).id_ranges()
    for island in outcome.arrived:
        outcome.inserted[island.place] = outcome.inserted.get(island.place, 0) + island.ids
    if fresh is not trades:
        doubtful = ~new & (seen | ~dedup.same_as_kept(trades, arrivals.kept()))
        if doubtful.any():
            verdicts = dedup.conflicts(kept(trades, doubtful), dedup.in_silver(settings))
            outcome.conflicts = _quarantine_conflicts(verdicts, files, settings)
    if pending:  # an earlier process may have inserted them: count the batch's trades that are in the table
        outcome.inserted = dedup.inserted_by_partition(trades, settings)
    return outcome


def _quarantine_conflicts(verdicts: pa.Table, files: Sequence[str], settings: Settings) -> dict[PartitionKey, int]:
    """Put the repeats with other content into quarantine, and count them by Kafka partition."""
    if verdicts.num_rows:  # their raw messages are read again: conflicts are seldom
        messages = batch_files.messages_at(settings, files, verdicts, _COLUMNS)
        merge_by_offset(quarantine_rows(messages, verdicts), SILVER_QUARANTINE, settings)
    return dedup.by_partition(verdicts)


def _news(arrived: Sequence[BatchRange]) -> dict[MarketKey, News]:
    news: dict[MarketKey, News] = {}
    for island in arrived:
        arrival = Arrival(island.first_id, island.last_id, island.ts_first, island.ts_last, island.repaired)
        news.setdefault(island.key, News()).arrived.append(arrival)
    return news


def _ends(batch: Judged, outcome: _Outcome) -> dict[PartitionKey, PartitionRows]:
    """Count every message of the batch by Kafka partition and by where it ended."""
    trades, events, quarantined = (Counter(_by_place(rows)) for rows in batch)
    return rows_by_place(trades, outcome.inserted, outcome.conflicts, quarantined, events)


def _by_place(rows: pa.Table) -> dict[PartitionKey, int]:
    counts = rows.group_by(["kafka_topic", "kafka_partition"]).aggregate([([], "count_all")])
    return {(row["kafka_topic"], row["kafka_partition"]): row["count_all"] for row in counts.to_pylist()}
