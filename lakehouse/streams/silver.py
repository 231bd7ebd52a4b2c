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

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.packed_ids import packed
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, dedup
from lakehouse.streams.batch import BatchContext, BatchResult, rows_by_place
from lakehouse.streams.batch_plan import UNIT_MESSAGES, DataFile
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.data_files import undo
from lakehouse.streams.refine import Refined, in_order, refine, units_of
from lakehouse.streams.silver_commits import append_trades, merge_by_offset
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.unit_claims import refined
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from lakehouse.transforms.batch_ids import BatchRange

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
    parts = _refined(files, is_pending, settings, ledger, tasks)
    refused, quarantine, events = (
        _joined(table, [getattr(part, name) for part in parts])
        for table, name in (
            (SILVER_QUARANTINE, "refused"),
            (SILVER_QUARANTINE, "quarantine"),
            (SILVER_FEED_EVENTS, "feed_events"),
        )
    )
    news = _news(island for part in parts for island in part.arrived)
    for rows in (refused, quarantine):
        if rows.num_rows:
            merge_by_offset(rows, SILVER_QUARANTINE, settings)
    if events.num_rows:
        merge_by_offset(events, SILVER_FEED_EVENTS, settings)
        add_words(news, events)
    ledger.take(news, table_io.open_table(settings, SILVER_TRADES).version())
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    return BatchResult.of_partitions(
        rows_by_place(
            trades=_sum(part.trades for part in parts),
            added=_sum(count for part in parts for count in (part.earlier, dedup.ids_by_partition(part.arrived))),
            conflicts=_sum(part.conflicts for part in parts),
            quarantined=dedup.by_partition(quarantine),
            feed_events=dedup.by_partition(events),
        ),
        source_start=delta_position(context.checkpoint.offset(batch_id - 1)),
        source_end=delta_position(context.checkpoint.offset(batch_id)),
        versions={table.path: table_io.open_table(settings, table).version() for table in tables},
    )


def _refined(
    files: Sequence[DataFile], is_pending: bool, settings: Settings, ledger: Ledger, tasks: Tasks
) -> list[Refined]:
    """Have the messages of a batch sorted, unit by unit, and append the new trades in one commit.

    Raises what a work raises, and OtherWriterError.
    """
    uri = table_io.table_uri(settings, SILVER_TRADES)
    run = partial(tasks.run, work=refine, undo=partial(undo, uri))
    known = packed(ledger.all_present())
    lists = units_of(settings, files, known, is_pending, UNIT_MESSAGES)
    parts = refined(lists, lambda: in_order(settings, files, known, is_pending, UNIT_MESSAGES), run, uri)
    written = [file for part in parts for file in part.files]
    if written:
        append_trades(written, settings, ledger.trades_version)
    return parts


def _joined(table: Table, parts: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables([table_io.arrow_schema(table).empty_table(), *parts])


def _sum(counts: Iterable[Mapping[PartitionKey, int]]) -> Counter[PartitionKey]:
    total: Counter[PartitionKey] = Counter()
    for one in counts:
        total.update(one)
    return total


def _news(arrived: Iterable[BatchRange]) -> dict[MarketKey, News]:
    news: dict[MarketKey, News] = {}
    for island in arrived:
        arrival = Arrival(island.first_id, island.last_id, island.ts_first, island.ts_last, island.repaired)
        news.setdefault(island.key, News()).arrived.append(arrival)
    return news
