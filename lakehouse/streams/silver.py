"""bronze/messages → silver/trades, silver/quarantine, silver/feed_events, silver/continuity.

Guarantee: each trade once, however late it comes again. The ledger knows every id that is in the table; a batch appends
the others and nothing else. So a batch that runs again, a replayed topic, a repair a month later and a lost checkpoint
add nothing. The table gets inserts only, so that Gold can stream from it. Every message ends in exactly one of: a
trade, a duplicate, a feed event, a row in quarantine; if an id comes again with other content, the first one stays and
the other goes to quarantine.
Two writers at once cannot double anything either: all appends share one Delta transaction id, so the second of two that
know the same state of the table fails, and starts again with the ledger of the first.
Spark decides what a batch holds; its rows are handled as Arrow (docs/adr/0008), unit by unit (docs/adr/0024). Copies of
an id are ordered by their file of Bronze, in the order of its log,
then by topic, partition and offset: the first one is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.packed_ids import packed
from lakehouse.lake import table_io
from lakehouse.streams import batch_plan
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.batch_plan import UNIT_MESSAGES
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.refine import RefineUnit
from lakehouse.streams.silver_commits import append_trades, merge_by_offset
from lakehouse.streams.sorted_batch import sort_batch
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Size of Bronze's files up to which a batch takes more of them: enough work for a catch-up, not too much memory.
MAX_BYTES_PER_TRIGGER = "64m"


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """Return Spark's Delta source of bronze/messages."""
    context.checkpoint.begin_at_creation(table_io.open_table(context.settings, BRONZE_MESSAGES).version())
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .options(**context.checkpoint.begin_options())
        .load(table_io.table_uri(context.settings, BRONZE_MESSAGES))
    )


def write_batch(batch_id: int, context: BatchContext, ledger: Ledger, tasks: Tasks) -> BatchResult:
    """Write one batch and return its result.

    Order: the new trades, the repeats that conflict, other messages in quarantine, feed events, the ledger. Raises
    OtherWriterError if another writer has written to silver/trades, and what a work on executors raises.
    """
    settings = context.settings
    files = batch_plan.delta_files(context.checkpoint, batch_id, settings, BRONZE_MESSAGES)
    is_pending = batch_id == context.pending_batch
    blank = RefineUnit(settings.for_executors(), (), packed(ledger.all_present()), is_pending)
    batch = sort_batch(files, UNIT_MESSAGES, blank, tasks)
    if batch.files:
        append_trades(batch.files, settings, ledger.trades_version)
    for rows, table in (
        (batch.refused, SILVER_QUARANTINE),
        (batch.quarantine, SILVER_QUARANTINE),
        (batch.feed_events, SILVER_FEED_EVENTS),
    ):
        if rows.num_rows:
            merge_by_offset(rows, table, settings)
    ledger.take(batch.news, table_io.open_table(settings, SILVER_TRADES).version())
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    return BatchResult.of_partitions(
        batch.places,
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=delta_position(context.checkpoint.offset(batch_id)),
        versions={table.path: table_io.open_table(settings, table).version() for table in tables},
    )
