"""Compute Silver from Bronze up to a version, by today's parser and rules: the batches of the stream, from none.

Guarantee: the rows and the ledger are those of a stream that reads Bronze from its beginning. Files are read in the
order of its log, by the stream's own units and works (`sorted_batch`), the ledger is carried along from empty, and of
the copies of an id the first by file, topic, partition and offset is kept. No commit is made here: the new rows lie in
files of the tables that no log names. Later units compare their repeats with those of silver/trades among them.
Cost: Bronze is read once, and once more the files with a conflict and the units that give ids up. In memory here are
one batch's rows for quarantine and feed events, the ledger, and a few words on each new file of trades.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from deltalake.transaction import AddAction

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.continuity.ledger import Ledger
from lakehouse.continuity.packed_ids import packed
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan
from lakehouse.streams.batch import PartitionRows
from lakehouse.streams.batch_plan import UNIT_MESSAGES, DataFile
from lakehouse.streams.data_files import new_files, remove_files
from lakehouse.streams.kept_trades import KeptFile
from lakehouse.streams.refine import RefineUnit
from lakehouse.streams.sorted_batch import sort_batch
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import BRONZE_MESSAGES, SILVER_FEED_EVENTS, SILVER_QUARANTINE, SILVER_TRADES, Table

#: Tables that a rebuild writes from Bronze. The trades come last, because Gold reads them.
TABLES = (SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_TRADES)

#: Units of a batch: about as many messages as a batch of the stream takes, all of which may go to quarantine.
BATCH_UNITS = 8


class Contents:
    """Silver as it should be, in files that no log names. Batches have to come in the order of Bronze's log."""

    def __init__(self, settings: Settings, tasks: Tasks) -> None:
        self._settings, self._tasks = settings, tasks
        self._kept: list[KeptFile] = []
        self.ledger = Ledger(settings, anew=True)
        #: table path → the new files of the table
        self.files: dict[str, list[AddAction]] = {table.path: [] for table in TABLES}
        self.rules: Counter[str] = Counter()  #: rule → messages in quarantine
        #: (topic, partition) → what became of the messages of the Kafka partition
        self.places: dict[PartitionKey, PartitionRows] = {}

    def add(self, files: Sequence[DataFile], most: int) -> None:
        """Take the messages of the next data files of Bronze, in units of up to `most` messages."""
        mine, known = self._settings.for_executors(), packed(self.ledger.all_present())
        blank = RefineUnit(mine, (), known, staged=tuple(self._kept))
        batch = sort_batch(files, most, blank, self._tasks)
        self.files[SILVER_TRADES.path] += batch.files
        self._kept += map(KeptFile.of, batch.files)
        for rows in (batch.refused, batch.quarantine):
            self._stage(SILVER_QUARANTINE, rows)
            counts: Any = rows.column("rule").value_counts()
            self.rules.update({one["values"]: one["counts"] for one in counts.to_pylist()})
        self._stage(SILVER_FEED_EVENTS, batch.feed_events)
        self.ledger.add(batch.news)
        for place, counted in batch.places.items():
            self.places[place] = self.places.get(place, PartitionRows(0, 0)) + counted

    def _stage(self, table: Table, rows: pa.Table) -> None:
        with new_files(table_io.table_uri(self._settings, table), table) as new:
            new.add(rows)
            self.files[table.path] += new.finish()

    def take(self, table: Table) -> list[AddAction]:
        """Hand over the files of a table: `discard` leaves them alone from here on."""
        taken, self.files[table.path] = self.files[table.path], []
        return taken

    def discard(self) -> None:
        """Delete the files that nobody has taken, as far as that can be done."""
        for table in TABLES:
            remove_files(table_io.table_uri(self._settings, table), [file.path for file in self.files[table.path]])


@contextlib.contextmanager
def contents(
    settings: Settings, bronze_version: int, tasks: Tasks, most: int = UNIT_MESSAGES, batch_units: int = BATCH_UNITS
) -> Iterator[Contents]:
    """Compute Silver from all messages of Bronze at a version, and yield it.

    At the block's end its files are deleted, except those that were taken out of it to be committed. `most` is the
    number of messages of a unit, `batch_units` the number of units of a batch. Raises what a work raises.
    """
    new = Contents(settings, tasks)
    units = list(batch_plan.units(batch_plan.files_at(settings, BRONZE_MESSAGES, bronze_version), most))
    try:
        for first in range(0, len(units), batch_units):
            new.add([file for unit in units[first : first + batch_units] for file in unit], most)
        yield new
    finally:
        new.discard()
