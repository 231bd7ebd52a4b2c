"""Sort the messages of a batch, unit by unit: one way for the stream and for a rebuild of Silver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.streams import dedup
from lakehouse.streams.batch import PartitionRows, rows_by_place
from lakehouse.streams.data_files import undo
from lakehouse.streams.refine import RefineUnit, refine
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.unit_claims import settle
from lakehouse.tables import SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table
from lakehouse.transforms.batch_ids import BatchRange


@dataclass(frozen=True)
class SortedBatch:
    """The result of a batch: `files` with its new trades, which no commit names yet, and rows of the other tables.

    `refused` and `quarantine` are rows of silver/quarantine: repeats with other content, and other messages.
    `places` counts the messages of each Kafka partition; `news` is what the ledger has to learn.
    """

    files: tuple[AddAction, ...]
    refused: pa.Table
    quarantine: pa.Table
    feed_events: pa.Table
    places: dict[PartitionKey, PartitionRows]
    news: dict[MarketKey, News]


def sort_batch(units: Iterable[Sequence[str]], blank: RefineUnit, tasks: Tasks) -> SortedBatch:
    """Have the messages of a batch sorted, unit by unit; each unit has the paths of its files, and is like `blank`.

    Raises what a work raises; no file is left then.
    """
    uri = table_io.table_uri(blank.settings, SILVER_TRADES)
    run = partial(tasks.run, work=refine, undo=partial(undo, uri))
    given = [replace(blank, paths=tuple(paths)) for paths in units]
    parts = settle(given, run(given), run, uri)
    refused, quarantine, events = (
        _joined(table, [getattr(part, name) for part in parts])
        for table, name in (
            (SILVER_QUARANTINE, "refused"),
            (SILVER_QUARANTINE, "quarantine"),
            (SILVER_FEED_EVENTS, "feed_events"),
        )
    )
    places = rows_by_place(
        trades=_sum(part.trades for part in parts),
        added=_sum(count for part in parts for count in (part.earlier, dedup.ids_by_partition(part.arrived))),
        conflicts=_sum(part.conflicts for part in parts),
        quarantined=dedup.by_partition(quarantine),
        feed_events=dedup.by_partition(events),
    )
    news = _news(island for part in parts for island in part.arrived)
    add_words(news, events)
    return SortedBatch(tuple(file for part in parts for file in part.files), refused, quarantine, events, places, news)


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
