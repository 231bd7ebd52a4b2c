"""Compute Silver from Bronze up to a version, by today's parser and rules: the stream's own functions, unit by unit.

Guarantee: the rows are those of a stream that reads Bronze from its beginning. Files are read in the order of its log,
the known ids are carried along from none, and of the copies of an id the first by file, topic, partition and offset is
kept, as in a batch of the stream. No commit is made here: the new rows lie in files that no log names (`staged`).
Cost: Bronze is read once, and once more the files with a conflict. In memory are one unit's rows, and of all before it
the ranges of ids and the missing ids that ingest reported.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.id_states import News
from lakehouse.continuity.known_ids import KnownIds
from lakehouse.continuity.venue_words import add_words
from lakehouse.lake import table_io
from lakehouse.market.symbols import MarketKey
from lakehouse.rebuild.fingerprint import Fingerprint, fingerprint
from lakehouse.rebuild.staged import Staged
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, dedup
from lakehouse.streams.batch import PartitionRows, rows_by_place
from lakehouse.streams.batch_files import read_chunks
from lakehouse.streams.batch_plan import UNIT_MESSAGES
from lakehouse.streams.refine import sort_messages
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table

#: Tables that a rebuild writes from Bronze. The trades come last, because Gold reads them.
TABLES = (SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_TRADES)


class Contents:
    """Silver as it should be, in files that no log names. Units have to come in the order of Bronze's log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known = KnownIds()
        self._counts: dict[str, Counter[PartitionKey]] = {
            name: Counter() for name in ("trades", "added", "conflicts", "quarantined", "feed_events")
        }
        self.staged = {table.path: Staged(settings, table) for table in TABLES}
        self.rules: Counter[str] = Counter()  #: rule → messages in quarantine
        #: (venue, symbol) → all that ingest has ever reported about missing trade ids in feed events
        self.words: dict[MarketKey, News] = {}

    def add(self, paths: Sequence[str]) -> None:
        """Take the messages of the next data files of Bronze, which are one unit."""
        kept = self.staged[SILVER_TRADES.path].near
        new, refined = sort_messages(self._settings, paths, self._known.of, kept)
        for table, rows in (
            (SILVER_TRADES, new),
            (SILVER_QUARANTINE, refined.refused),
            (SILVER_QUARANTINE, refined.quarantine),
            (SILVER_FEED_EVENTS, refined.feed_events),
        ):
            self._put(table, rows)
        for island in refined.arrived:
            self._known.add(island.key, island.first_id, island.last_id)
        add_words(self.words, refined.feed_events)
        counts = {
            "trades": refined.trades,
            "added": dedup.ids_by_partition(refined.arrived),
            "conflicts": refined.conflicts,
            "quarantined": dedup.by_partition(refined.quarantine),
            "feed_events": dedup.by_partition(refined.feed_events),
        }
        for name, count in counts.items():
            self._counts[name].update(count)

    def _put(self, table: Table, rows: pa.Table) -> None:
        self.staged[table.path].add(rows)
        if table is SILVER_QUARANTINE:
            counts: Any = rows.column("rule").value_counts()
            self.rules.update({one["values"]: one["counts"] for one in counts.to_pylist()})

    def places(self) -> dict[PartitionKey, PartitionRows]:
        """Count what became of the messages of each Kafka partition."""
        return rows_by_place(**self._counts)

    def discard(self) -> None:
        """Delete the files of `staged`, except those that `Staged.take` has handed over."""
        for staged in self.staged.values():
            staged.discard()


@contextlib.contextmanager
def contents(settings: Settings, bronze_version: int, most: int = UNIT_MESSAGES) -> Iterator[Contents]:
    """Compute Silver from all messages of Bronze at a version, and yield it.

    At the block's end its files are deleted, except those that were taken out of it to be committed. `most` is the
    number of messages of a unit.
    """
    new = Contents(settings)
    try:
        for unit in batch_plan.units(batch_plan.files_at(settings, BRONZE_MESSAGES, bronze_version), most):
            new.add(unit)
        yield new
    finally:
        new.discard()


def fingerprint_of(settings: Settings, table: Table) -> Fingerprint:
    """Compute the fingerprint of the rows that a table has."""
    version = table_io.open_table(settings, table).version()
    paths = [file.path for file in batch_plan.files_at(settings, table, version)]
    chunks = read_chunks(settings, table, paths, table.column_names)
    return sum((fingerprint(chunk, table) for chunk in chunks), Fingerprint())
