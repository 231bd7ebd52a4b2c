"""bronze/messages → silver/trades, silver/quarantine, silver/feed_events, silver/continuity.

Guarantee: each trade once, however late it comes again. The ledger knows every id that is in the table; a batch appends
the others and nothing else. So a batch that runs again, a replayed topic, a repair a month later and a lost checkpoint
add nothing. The table gets inserts only, so that Gold can stream from it. Every message ends in exactly one of: a
trade, a duplicate, a feed event, a row in quarantine; if an id comes again with other content, the first one stays and
the other goes to quarantine.
Two writers at once cannot double anything either: all appends share one Delta transaction id, so the second of two that
know the same state of the table fails, and starts again with the ledger of the first.
Spark decides what a batch holds; its rows are handled as Arrow in this process (docs/adr/0008). Copies of an id are
ordered by their file of Bronze, in the order of its log, then by topic, partition and offset: the first one is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, dedup
from lakehouse.streams.batch import BatchContext, BatchResult, PartitionRows, rows_by_place
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.silver_commits import append_trades, merge_by_offset
from lakehouse.streams.silver_rows import SilverRows, expect, refused, rows_of
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)
from lakehouse.transforms.batch_ids import BatchRange
from lakehouse.transforms.message_judge import Judged

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Size of Bronze's files up to which a batch takes more of them: enough work for a catch-up, not too much memory.
MAX_BYTES_PER_TRIGGER = "64m"


@dataclass
class _Outcome:
    """Counts of a batch's trades that were inserted and that conflict, by Kafka partition, and the ids that are new."""

    inserted: dict[PartitionKey, int] = field(default_factory=dict)
    conflicts: dict[PartitionKey, int] = field(default_factory=dict)
    arrived: Sequence[BatchRange] = ()


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """Return Spark's Delta source of bronze/messages.

    From here on the messages that this process writes are judged at once.
    """
    expect(context.settings)
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
    rows = rows_of(settings, files)
    batch = rows.judged
    outcome = _take_trades(rows, files, batch_id == context.pending_batch, settings, ledger)
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


def _take_trades(rows: SilverRows, files: Sequence[str], pending: bool, settings: Settings, ledger: Ledger) -> _Outcome:
    """Append the trades that are new, put those that conflict into quarantine, and count both.

    `files` are the batch's, of bronze/messages. `pending` is true if an earlier process planned the batch and may have
    run a part of it.
    """
    trades = rows.judged.trades
    if not trades.num_rows:
        return _Outcome()
    found = dedup.sort_out(trades, rows.files, ledger.present)
    outcome = _Outcome(arrived=found.arrived)
    if found.new.num_rows:
        append_trades(found.new, settings, ledger.trades_version)
    outcome.inserted = dedup.ids_by_partition(found.arrived)
    if found.doubtful.num_rows:
        verdicts = dedup.conflicts(found.doubtful, dedup.in_silver(settings))
        outcome.conflicts = dedup.by_partition(verdicts)
        if verdicts.num_rows:
            merge_by_offset(refused(settings, files, verdicts), SILVER_QUARANTINE, settings)
    if pending:  # an earlier process may have inserted them: count the batch's trades that are in the table
        outcome.inserted = dedup.inserted_by_partition(trades, settings)
    return outcome


def _news(arrived: Sequence[BatchRange]) -> dict[MarketKey, News]:
    news: dict[MarketKey, News] = {}
    for island in arrived:
        arrival = Arrival(island.first_id, island.last_id, island.ts_first, island.ts_last, island.repaired)
        news.setdefault(island.key, News()).arrived.append(arrival)
    return news


def _ends(batch: Judged, outcome: _Outcome) -> dict[PartitionKey, PartitionRows]:
    """Count every message of the batch by Kafka partition and by where it ended."""
    trades, events, quarantined = map(dedup.by_partition, batch)
    return rows_by_place(trades, outcome.inserted, outcome.conflicts, quarantined, events)
