"""Report a running stream to Dagster: materializations of the tables that changed, with the verdicts of the checks.

A stream evaluates its checks every `settings.check_seconds` (or `report_seconds`, if that is shorter) and records each
evaluation in ops/checks. Dagster never deletes an event, so a report (one materialization of each table with all its
verdicts) comes only every `settings.report_seconds`. It comes at once if the UI does not show the newest verdict,
because the verdict changed or somebody else materialized the table.

Materializations are events of the run, because `eager()` sees no others. Verdicts are runless events: Dagster keeps
only the last of a run's own verdicts, at the place of the run's first, so later runs would hide those of a stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dagster import AssetKey, OpExecutionContext

from assets.checks import check_evaluation, check_key, checks_of
from assets.lineage import table_key
from assets.metadata import ledger_materialization, materializations
from assets.specs import ALWAYS_GROWING
from assets.verdicts import Materialized, latest_materializations, shown_verdict
from jobs.run_heartbeat import log_event
from lakehouse.lake.table_io import open_table
from lakehouse.quality.checks import Check, CheckResult, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, OPS_CHECKS, OPS_REPLAYS, Table

if TYPE_CHECKING:
    from lakehouse.streams.progress import TableProgress

#: Checks with their verdicts, as `run_checks` returns them.
Verdicts = list[tuple[Check, CheckResult]]

#: Seconds between two looks after a start, until trades have reached the last table or one regular interval is over: so
#: a start shows soon.
FIRST_REPORT_SECONDS = 5.0

#: Most seconds by which a file is older than its commit. A day of Gold that was written in this time before a report is
#: reported again with the next one: once too often rather than never.
COMMIT_SECONDS = 60.0


class Reporter:
    """Evaluates the checks of a stream's run, and reports the run's tables and verdicts to Dagster at intervals.

    The run's body asks `due` about once a second, and calls `look` if it is True. `layers`: the layers that the run
    writes.
    """

    def __init__(self, context: OpExecutionContext, settings: Settings, layers: Sequence[str]) -> None:
        self._context = context
        self._settings = settings
        # The ledgers' own checks go with the last layer, so that split streams evaluate them once.
        self._checks = checks_of(settings, (*layers, "ops") if "gold" in layers else tuple(layers))
        self._reported: dict[str, int] = {}
        #: Days of Gold that were written since this time (epoch seconds) are to be reported.
        self._days_since = time.time()
        self._every = min(settings.check_seconds, settings.report_seconds)
        self._first_at_latest = time.monotonic() + self._every
        self._due = time.monotonic() + min(FIRST_REPORT_SECONDS, self._every)
        self._report_due = time.monotonic()

    def due(self) -> bool:
        """Return True if it is time to call `look` again."""
        return time.monotonic() >= self._due

    def look(self, read_progress: Callable[[], Mapping[str, TableProgress]], last: bool = False) -> None:
        """Run the checks, and report to Dagster what it does not show yet.

        If a table has changed, all tables and ledgers with their verdicts are reported if a report is due, if this is
        the last look (`last`), or if the UI does not show a newest verdict. Else only the verdicts that the UI does not
        show are reported. Right after a start, while a table that always grows is empty, nothing is done, for one
        interval at most.

        `read_progress` returns table path → progress. An error is logged, not raised: a report must not end a stream.
        """
        self._due = time.monotonic() + self._every
        try:
            progress = read_progress()
            if not last and self._too_early(progress):
                self._due = time.monotonic() + min(FIRST_REPORT_SECONDS, self._every)
                return
            results = run_checks(self._settings, self._checks, recent=True, run_id=self._context.run_id)
            hidden = self._hidden(results)
            changed = any(self._reported.get(path) != table.version for path, table in progress.items())
            if changed and (last or hidden or time.monotonic() >= self._report_due):
                self._report_tables(progress, results)
                for ledger in (OPS_BATCHES, OPS_CHECKS, OPS_REPLAYS):
                    self._report_ledger(ledger)
                self._report_due = time.monotonic() + self._settings.report_seconds
            elif hidden:  # about tables that have not changed since they were materialized
                self._report_verdicts(hidden)
        except Exception:
            self._context.log.warning("nothing, or not everything, could be reported this time", exc_info=True)

    def _too_early(self, progress: Mapping[str, TableProgress]) -> bool:
        empty = any(path in ALWAYS_GROWING and not table.rows for path, table in progress.items())
        return empty and not self._reported and time.monotonic() < self._first_at_latest

    def _hidden(self, results: Verdicts) -> Verdicts:
        """The verdicts that the UI does not show: it shows another one, or none."""
        instance, latest = self._context.instance, self._latest(results)
        return [
            (check, result)
            for check, result in results
            if shown_verdict(instance, check_key(check), latest.get(table_key(check.table_path))) != result.passed
        ]

    def _latest(self, results: Verdicts) -> dict[AssetKey, Materialized]:
        keys = {table_key(check.table_path) for check, _ in results}
        return latest_materializations(self._context.instance, keys)

    def _report_tables(self, progress: Mapping[str, TableProgress], results: Verdicts) -> None:
        """Report each table, followed at once by its verdicts: until then the UI shows "Not evaluated".

        A table that has not changed is reported with the others: it is as current as they are, and otherwise the UI
        would call it out of step. Gold is reported by day: each day written since the last report, and today.
        """
        begun = time.time()
        for table in progress.values():
            for materialization in materializations(self._settings, table, self._days_since):
                log_event(self._context, materialization)
            self._report_verdicts([one for one in results if one[0].table_path == table.table_path])
            self._reported[table.table_path] = table.version
        self._report_verdicts([one for one in results if one[0].table_path not in progress])
        self._days_since = begun - COMMIT_SECONDS

    def _report_verdicts(self, results: Verdicts) -> None:
        latest = self._latest(results)
        for check, result in results:
            about = latest.get(table_key(check.table_path))
            evaluation = check_evaluation(check, result, about, " (what came lately)")
            self._context.instance.report_runless_asset_event(evaluation)

    def _report_ledger(self, ledger: Table) -> None:
        version = open_table(self._settings, ledger).version()
        if self._reported.get(ledger.path) != version:
            log_event(self._context, ledger_materialization(self._settings, ledger))
            self._reported[ledger.path] = version
