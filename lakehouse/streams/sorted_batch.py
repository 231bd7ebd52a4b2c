"""Sort the messages of a batch, unit by unit: one way for the stream and for a rebuild of Silver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import Arrival, News
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.streams import batch_plan, dedup
from lakehouse.streams.batch import PartitionRows, rows_by_place
from lakehouse.streams.batch_plan import DataFile, paths_of
from lakehouse.streams.data_files import undo
from lakehouse.streams.refine import Refined, RefineUnit, refine
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.unit_claims import have_common_ids, settle
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


def sort_batch(files: Sequence[DataFile], most: int, blank: RefineUnit, tasks: Tasks) -> SortedBatch:
    """Have the messages of a batch's files sorted, in units of up to `most` messages that are like `blank`.

    Raises what a work raises; no file is left then.
    """
    parts = _refined(files, most, blank, tasks)
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


def _refined(files: Sequence[DataFile], most: int, blank: RefineUnit, tasks: Tasks) -> list[Refined]:
    """Have units refined, and return their results, each new id in one of them.

    Units are made by Kafka's partitions, so that few of them have to work again. If lists of units have an id in common
    after all, as after a market has moved to another partition, they are made in the order of the files instead: which
    copy of an id is kept does not depend on how a batch is divided.
    """
    uri = table_io.table_uri(blank.settings, SILVER_TRADES)
    run = partial(tasks.run, work=refine, undo=partial(undo, uri))
    lists = [_units(some, most, blank) for some in batch_plan.by_places(files, most)]
    units = [unit for some in lists for unit in some]
    results = run(units)
    rest = iter(results)
    if have_common_ids([list(islice(rest, len(some))) for some in lists]):
        for result in results:
            undo(uri, result)
        units = _units(files, most, blank)
        results = run(units)
    return settle(units, results, run, uri)


def _units(files: Sequence[DataFile], most: int, blank: RefineUnit) -> list[RefineUnit]:
    return [replace(blank, paths=paths_of(some)) for some in batch_plan.units(files, most)]


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
