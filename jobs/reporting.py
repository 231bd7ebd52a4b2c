"""What a running stream tells Dagster: materializations of the tables that changed, then the verdicts of the checks.

Each table once per `settings.report_seconds`, because Dagster keeps every event. The verdicts come right after the
materializations: a materialization without them would show its checks as not evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dagster import OpExecutionContext

from assets.checks import check_evaluation, checks_of
from assets.metadata import ledger_materialization, materializations
from assets.specs import ALWAYS_GROWING
from jobs.hosting import log_event
from lakehouse.lake import open_table
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, OPS_CHECKS, OPS_REPLAYS, Table

if TYPE_CHECKING:
    from lakehouse.streams.progress import TableProgress

#: Until trades have come through to the last table, a stream looks this often (seconds), so that a start shows soon;
#: for one report interval at most.
FIRST_REPORT_SECONDS = 5.0

#: A file is older than the commit that brings it, by so many seconds at most. A day of Gold that was written in this
#: time before a report is told by the next one too: once too often rather than never.
COMMIT_SECONDS = 60.0


class Reporter:
    """Reports for one run. Remembers which version of each table it has reported."""

    def __init__(self, context: OpExecutionContext, settings: Settings, layers: Sequence[str]) -> None:
        self._context = context
        self._settings = settings
        # The ledgers' own checks go with the last layer, so that split streams evaluate them once.
        self._checks = checks_of(settings, (*layers, "ops") if "gold" in layers else tuple(layers))
        self._reported: dict[str, int] = {}
        #: Epoch seconds since which days of Gold that were written are to be told.
        self._days_since = time.time()
        self._first_at_latest = time.monotonic() + settings.report_seconds
        self._due = time.monotonic() + min(FIRST_REPORT_SECONDS, settings.report_seconds)

    def due(self) -> bool:
        """Whether it is time for `report`."""
        return time.monotonic() >= self._due

    def report(self, read_progress: Callable[[], Mapping[str, TableProgress]]) -> None:
        """1 materializations of the tables, 2 checks, 3 the ledgers. Nothing where no table changed.

        A table that stayed as it was is reported with the others: it is as current as they are, and the UI would call
        it out of step. Gold is reported by day: each that was written since the report before, and today.

        What cannot be read now is logged and reported the next time: a report must not end a stream.
        """
        self._due = time.monotonic() + self._settings.report_seconds
        try:
            progress = read_progress()
            if self._too_early(progress):
                self._due = time.monotonic() + min(FIRST_REPORT_SECONDS, self._settings.report_seconds)
                return
            if self._report_tables(progress):
                self._evaluate_checks()
                for ledger in (OPS_BATCHES, OPS_CHECKS, OPS_REPLAYS):
                    self._report_ledger(ledger)
        except Exception:
            self._context.log.warning("nothing, or not everything, could be reported this time", exc_info=True)

    def _too_early(self, progress: Mapping[str, TableProgress]) -> bool:
        empty = any(path in ALWAYS_GROWING and not table.rows for path, table in progress.items())
        return empty and not self._reported and time.monotonic() < self._first_at_latest

    def _report_tables(self, progress: Mapping[str, TableProgress]) -> bool:
        changed = any(self._reported.get(path) != table.version for path, table in progress.items())
        begun = time.time()
        for table in progress.values() if changed else ():
            for materialization in materializations(self._settings, table, self._days_since):
                log_event(self._context, materialization)
            self._reported[table.table_path] = table.version
        if changed:
            self._days_since = begun - COMMIT_SECONDS
        return changed

    def _evaluate_checks(self) -> None:
        results = run_checks(self._settings, self._checks, recent=True, run_id=self._context.run_id)
        for check, result in results:
            log_event(self._context, check_evaluation(check, result, " (what came lately)"))

    def _report_ledger(self, ledger: Table) -> None:
        version = open_table(self._settings, ledger).version()
        if self._reported.get(ledger.path) != version:
            log_event(self._context, ledger_materialization(self._settings, ledger))
            self._reported[ledger.path] = version
