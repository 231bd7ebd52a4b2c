"""silver/trades → every table of Gold.

Guarantee: Gold is a pure function of Silver. A batch names the minutes it touches; their bars, and the rows that depend
on them, are recomputed from Silver at the version at which the batch ends. So late and replayed trades, a batch that
runs again and a lost checkpoint end in the same rows. A bar's `complete` is a function of Silver at that version too,
whichever window the trade that proves it lies in (`gold_complete`). `revision` counts the changes of a row's content.
Each commit names the version of Silver from which its rows were computed, so that a second writer which lags behind (a
run that was taken for dead) cannot put older rows over newer ones: it fails instead.
Gap: a batch that ends inside a version of Silver (a catch-up in several steps) reads that version whole; the steps that
follow touch the rest.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from deltalake import Transaction

from lakehouse.errors import BrokerUnavailableError, one_line
from lakehouse.lake import table_io
from lakehouse.lake.lease import Turn
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.batch_plan import delta_files
from lakehouse.streams.checkpoints import delta_position
from lakehouse.streams.compaction import UPKEEP_ERRORS, compact
from lakehouse.streams.gold_bars import KeptParts, Since
from lakehouse.streams.gold_complete import Completeness
from lakehouse.streams.gold_final import Finality, ReadThrough
from lakehouse.streams.gold_rows import RowChanges, StaleBatchError
from lakehouse.streams.gold_write import GoldWriter
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.touched_bars import read_batch
from lakehouse.tables import GOLD_BARS_1M, SILVER_TRADES, Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Knowledge", "StaleBatchError", "app_id", "gold_versions", "read", "write_batch"]

#: Most bytes of Silver's files in a batch, unless a single file is larger.
MAX_BYTES_PER_TRIGGER = "64m"

#: Seconds until files are joined again after an error: as often as the rest of the upkeep.
JOIN_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


def app_id(settings: Settings) -> str:
    """Return Delta's application id of Gold's commits. It names this silver/trades: another one counts anew."""
    return f"lakehouse/gold/{table_io.open_table(settings, SILVER_TRADES).metadata().id}"


def gold_versions(settings: Settings) -> dict[str, int]:
    """Return table path → newest version, for every Gold table that this lakehouse has."""
    return {table.path: table_io.open_table(settings, table).version() for table in _tables(settings)}


def _tables(settings: Settings) -> list[Table]:
    return [table for table in table_io.active_tables(settings) if table.layer == "gold"]


class Knowledge:
    """Knowledge that a Gold query keeps between its batches, read from the tables when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._completeness: Completeness | None = None
        self._read = ReadThrough(settings)
        self.kept = KeptParts()
        self.guard = threading.Lock()
        self._join_due = time.monotonic()

    def after(self, version: int) -> Completeness:
        """Return which bars are complete after the previous batch, which ended at, or inside, `version` of Silver."""
        if self._completeness is None:
            self._completeness = Completeness.at(self._settings, version)
        return self._completeness

    def join_files(self) -> None:
        """Join the small files of days. If that fails, log one line, and try again after JOIN_AGAIN_SECONDS."""
        if time.monotonic() < self._join_due:
            return
        try:
            for table in _tables(self._settings):
                compact(self._settings, table)
        except UPKEEP_ERRORS as error:
            self._join_due = time.monotonic() + JOIN_AGAIN_SECONDS
            _log.warning("the files of Gold's days are not joined: %s; it is tried again", one_line(error))

    @cached_property
    def finality(self) -> Finality:
        """The newest trade's time of each symbol, and the bars that are not final yet."""
        return Finality.of_tables(self._settings)

    @cached_property
    def app_id(self) -> str:
        return app_id(self._settings)

    def idle(self) -> None:
        """Flag the bars that are over by the clock as final, once all that Kafka had received by then has been read.

        Call it between two batches. It does nothing while a batch runs, or another process has Gold's turn.
        """
        now, moment = time.time_ns() // 1_000, None
        turn = Turn(self._settings, "gold")
        if not self.guard.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(BrokerUnavailableError):  # without Kafka it is unknown if everything has been read
                moment = self._read.passed(now) if self.finality.over(now) else None
            if moment is None:
                return
            if turn.take(wait=False):  # only after Kafka has answered: others wait for the turn
                self.finality.write(moment)
        finally:
            turn.give()
            self.guard.release()


def read(spark: SparkSession, context: BatchContext) -> DataFrame:
    """Return Spark's Delta source of silver/trades, which only gets new rows; after a rebuild it begins after that."""
    context.checkpoint.begin_at_creation(table_io.open_table(context.settings, SILVER_TRADES).version())
    return (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES_PER_TRIGGER)
        .options(**context.checkpoint.begin_options())
        .load(table_io.table_uri(context.settings, SILVER_TRADES))
    )


def write_batch(batch_id: int, context: BatchContext, knowledge: Knowledge, tasks: Tasks) -> BatchResult:
    """Write the bars of the minutes that a batch touches, those that it makes complete, and what depends on them.

    All are computed from Silver at the version at which, or inside which, the batch ends. Raises StaleBatchError if
    Gold has been written from a newer version, and what a work on executors raises.
    """
    settings = context.settings
    start = delta_position(context.checkpoint.offset(batch_id - 1))
    end = delta_position(context.checkpoint.offset(batch_id))
    with knowledge.guard:
        completeness, finality = knowledge.after(start["version"]), knowledge.finality
        files = delta_files(context.checkpoint, batch_id, settings, SILVER_TRADES)
        has_new_ids = end["complete"] and end["version"] > completeness.version
        touched = read_batch(settings, files, has_new_ids, tasks)
        for key, newest in touched.newest.items():
            finality.saw(key, newest)
        if not end["complete"]:  # the bars are read at all of that version, of which this batch has only a part
            completeness.read_up_to(settings, end["version"])
        elif has_new_ids:
            completeness.add(touched.ids, end["version"])
        of_silver = Transaction(knowledge.app_id, end["version"])
        writer = GoldWriter(settings, completeness, finality, of_silver, tasks, knowledge.kept)
        whole = start["complete"] and end["complete"]
        since = Since(start["version"], touched.parts) if whole else None
        writer.minutes(touched.places, completeness.take_due(), since)
        finality.write()
        knowledge.join_files()
    return BatchResult(
        source_start=start,
        source_end=end,
        rows_in=touched.trades,
        rows_out=writer.changes.get(GOLD_BARS_1M.path, RowChanges()).written,
        versions=gold_versions(settings),
    )
