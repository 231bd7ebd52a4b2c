"""`lakehouse rebuild silver`: compute Silver again from Bronze, in place of the Silver that is there.

Guarantee: each table is replaced by one commit, so a reader sees all of the old or all of the new one. The rebuild
covers exactly the messages of Bronze that the Silver stream had read; the stream goes on from its own checkpoint. If a
rebuild is killed, the streams of Silver and Gold refuse to start until the next `lakehouse rebuild silver` finishes it.
Order: 1 write the mark of an unfinished rebuild, 2 silver/quarantine, silver/feed_events, silver/trades,
3 silver/continuity, 4 Gold of every day in the old or the new Silver, and the position where its stream goes on,
5 ops/batches, 6 remove the mark.
The new rows are computed before the first of these steps, into files that no commit names (`contents`).
They are deleted if nothing differs; those of a killed rebuild go an hour later, as any (`streams/file_retention.py`).
A rebuild that was cut is not continued but done again: tables that are already written are then found identical.
Limit: between the commits of two tables a reader of both sees one new and one old; `lakehouse audit` and the checks of
conservation do not, because they go by the versions in ops/batches.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lakehouse.errors import RetriableError, TerminalError
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import newest_batches, standalone_run_id
from lakehouse.lake.lease import Lease
from lakehouse.rebuild import batch_records, gold
from lakehouse.rebuild.compared import fingerprint_of
from lakehouse.rebuild.contents import TABLES, Contents, contents
from lakehouse.settings import Settings
from lakehouse.streams import batch_plan, unfinished
from lakehouse.streams.batch import BatchResult
from lakehouse.streams.batch_plan import DataFile, rows_in
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.streams.gold import app_id as gold_app_id
from lakehouse.streams.silver_commits import replace_all
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.unfinished import Unfinished
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    OPS_BATCHES,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)

#: Function that gets a line for people.
Say = Callable[[str], None]


@dataclass(frozen=True)
class TableChange:
    """Number of rows of a table before and after a rebuild; `changed` is True if any row differs."""

    table_path: str
    before: int
    after: int
    changed: bool


@dataclass
class SilverReport:
    """Result of a rebuild of Silver from Bronze at a version. If `identical`, nothing differed and nothing was written.

    `rules_before` and `rules_after` map each rule to its messages in quarantine.
    """

    bronze_version: int
    tables: list[TableChange] = field(default_factory=list)
    rules_before: dict[str, int] = field(default_factory=dict)
    rules_after: dict[str, int] = field(default_factory=dict)
    identical: bool = False


def rebuild_silver(settings: Settings, say: Say = lambda _: None, run_id: str | None = None) -> SilverReport:
    """Replace Silver by what today's parser and rules make of Bronze; `say` gets a line for each step.

    Raises LeaseHeldError if a stream of Silver or Gold, or another rebuild, runs, TerminalError if Silver has read
    nothing yet, RetriableError if it has read only a part of a version of Bronze; each before anything is written.
    """
    with Lease(settings, unfinished.LAYERS, f"rebuild:{os.getpid()}"):
        table_io.ensure_tables(settings)
        cut = _cut(settings, say)
        position = _position(settings)
        messages = table_io.row_count(table_io.open_table(settings, BRONZE_MESSAGES, position))
        say(f"reading {messages:,} messages of bronze/messages up to version {position}, as far as Silver has")
        tasks = Tasks(settings)
        with contents(settings, position, tasks) as new:
            report = SilverReport(position, _compare(settings, new, tasks), _rules(settings), dict(new.rules))
            if not cut and not any(table.changed for table in report.tables):
                report.identical = True
                return report
            _Rebuild(settings, new, report, say, run_id or standalone_run_id(), cut).run()
        return report


def _cut(settings: Settings, say: Say) -> Unfinished | None:
    """Return the rebuild that was cut and must be finished, if any. If only its mark is left, remove that."""
    cut = unfinished.unfinished(settings)
    if cut is not None and batch_records.is_recorded(settings, cut.rebuild_id):
        say(f"rebuild {cut.rebuild_id} was cut after its last table: it is finished")
        unfinished.end(settings)
        return None
    if cut is not None:
        say(f"rebuild {cut.rebuild_id} was cut: doing it again")
    return cut


def _position(settings: Settings) -> int:
    """Return the last version of Bronze that the Silver stream has read as a whole."""
    newest = newest_batches(settings).get("silver")
    if newest is None:
        raise TerminalError(
            f"Silver in {settings.lake} has read nothing of {BRONZE_MESSAGES.path}",
            "at least one batch of its stream",
            "start `lakehouse stream silver`",
        )
    if not newest.whole or newest.source_version < _furthest(settings):
        raise RetriableError(
            f"the Silver stream stands at version {newest.source_version} of {BRONZE_MESSAGES.path}"
            f"{'' if newest.whole else ', in the middle of it'}",
            "the end of the newest version that it has ever read",
            "say `lakehouse stream silver --trigger available-now`, then rebuild",
        )
    return newest.source_version


def _furthest(settings: Settings) -> int:
    """Return the furthest version of Bronze that Silver ever read: a stream without its checkpoint reads it again."""
    ends = table_io.sql(settings, "SELECT DISTINCT source_end FROM b WHERE query = 'silver'", b=OPS_BATCHES)
    return max((int(json.loads(row["source_end"]).get("version", -1)) for row in ends.to_pylist()), default=-1)


def _compare(settings: Settings, new: Contents, tasks: Tasks) -> list[TableChange]:
    changes: list[TableChange] = []
    for table in TABLES:
        old = batch_plan.files_at(settings, table, table_io.open_table(settings, table).version())
        made = [DataFile(file.path, rows_in(file.stats)) for file in new.files[table.path]]
        there, to_be = (fingerprint_of(settings, table, files, tasks) for files in (old, made))
        changes.append(TableChange(table.path, there.rows, to_be.rows, there != to_be))
    return changes


def _rules(settings: Settings) -> dict[str, int]:
    rows = table_io.sql(settings, "SELECT rule, count(*) AS n FROM q GROUP BY rule", q=SILVER_QUARANTINE).to_pylist()
    return {row["rule"]: int(row["n"]) for row in rows}


@dataclass
class _Rebuild:
    """The writing part of a rebuild; the leases are held and something must be written."""

    settings: Settings
    new: Contents
    report: SilverReport
    say: Say
    run_id: str
    cut: Unfinished | None

    def run(self) -> None:
        """Write in the order of the module's docstring. After a cut rebuild do every step, also for equal tables."""
        settings, started = self.settings, dt.datetime.now(dt.UTC)
        old = table_io.open_table(settings, SILVER_TRADES).version()
        mark = self.cut or Unfinished(uuid.uuid4().hex[:12], old)
        if self.cut is None:
            unfinished.begin(settings, mark)
        for change, table in zip(self.report.tables, TABLES, strict=True):
            if change.changed:
                self.say(f"writing {table.path}: {change.before:,} → {change.after:,} rows")
                self._write(table)
        version = table_io.open_table(settings, SILVER_TRADES).version()
        if self._touched(SILVER_TRADES, SILVER_FEED_EVENTS):
            self.say("writing silver/continuity")
            self.new.ledger.write(version)
        results: dict[str, BatchResult] = {}
        if self._touched(SILVER_TRADES):
            self._gold(mark, version)
            results["gold"] = batch_records.gold_result(settings, version)
        results["silver"] = batch_records.silver_result(settings, self.report.bronze_version, self.new.places)
        batch_records.record_batches(settings, mark.rebuild_id, self.run_id, started, results)
        unfinished.end(settings)

    def _touched(self, *tables: Table) -> bool:
        paths = {table.path for table in tables}
        return self.cut is not None or any(one.changed for one in self.report.tables if one.table_path in paths)

    def _write(self, table: Table) -> None:
        replace_all(self.new.take(table), table, self.settings)

    def _gold(self, mark: Unfinished, version: int) -> None:
        """Write Gold of the new Silver, and let its stream go on after `version`."""
        both = (mark.trades_version, version)
        days = {day for one in both for day in table_io.days(self.settings, SILVER_TRADES, one)}
        if days:
            self.say(f"computing Gold of {min(days)} to {max(days)}")
            gold.rebuild_days(self.settings, min(days), max(days), self.run_id, silver_version=version)
        # Also if no bar has changed: Gold is made from this version from now on.
        table_io.append_rows(self.settings, GOLD_BARS_1M, [], (gold_app_id(self.settings), version))
        checkpoint = Checkpoint(f"{self.settings.checkpoints.rstrip('/')}/gold")
        checkpoint.begin_behind(version, aside=f"before-{mark.rebuild_id}")
