"""The jobs `sink_postgres` and `sink_redis`: keep PostgreSQL or Redis up to date with Gold.

A run goes on until it is canceled or the store refuses. Guarantee: that of `lakehouse.sinks`. In an outage of the store
the run waits, says so in its log and in a tag that `lakehouse status` shows, and then resumes at the version that the
store holds. If the store refuses, the run fails, and the sensor `keep_sink_postgres_running` or
`keep_sink_redis_running` launches it again, after a long wait.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import time
from collections.abc import Mapping

from dagster import (
    AssetMaterialization,
    JobDefinition,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    ResourceParam,
    in_process_executor,
    job,
    op,
)

from assets.sinks import sink_check_key, sink_evaluation, sink_key
from assets.verdicts import latest_materializations, shown_verdict
from jobs.managed_runs import NAME_TAG
from jobs.run_heartbeat import RunHeartbeat, hosting, log_event
from lakehouse.errors import RetriableError
from lakehouse.quality.model import CheckResult
from lakehouse.settings import Settings
from lakehouse.sinks.run import Follower, Held, Sink
from lakehouse.sinks.state import compare, verdict
from lakehouse.sinks.stores import POSTGRES, REDIS, Store

#: Seconds until the first report of a run, so that a start shows soon.
FIRST_REPORT_SECONDS = 10.0


def _host_op(store: Store) -> OpDefinition:
    @op(name=f"host_{store.job}")
    def host_sink(context: OpExecutionContext, settings: ResourceParam[Settings]) -> None:
        """Host the sink of one store: look at Gold, report, and close the connection when the run ends."""
        with hosting(context, settings, store.job) as heartbeat, store.open(settings) as sink:
            follower = Follower(sink, context.log.warning)
            reporter = _Reporter(context, settings, store, sink, heartbeat)
            while True:
                reporter.look(follower, follower.look())
                heartbeat.hold(follower.wait)

    return host_sink


class _Reporter:
    """Reports one store to Dagster: a materialization every `settings.report_seconds`, and the verdict of its check.

    The verdict is evaluated every `settings.check_seconds` and reported if the UI does not show it.
    """

    def __init__(
        self, context: OpExecutionContext, settings: Settings, store: Store, sink: Sink, heartbeat: RunHeartbeat
    ) -> None:
        self._context, self._settings, self._store, self._sink = context, settings, store, sink
        self._heartbeat = heartbeat
        self._every = min(settings.check_seconds, settings.report_seconds)
        self._due = self._report_due = time.monotonic() + min(FIRST_REPORT_SECONDS, self._every)
        self._held: Mapping[str, Held] = {}
        self._rows = 0
        self._told, self._was_out = "", False

    def look(self, follower: Follower, done: Mapping[str, int]) -> None:
        """Say what the sink waits for, if that has changed, and report what is due; `done` is what a look has written.

        If something cannot be read or reported now, that is logged: a report must not end a sink.
        """
        self._rows += sum(done.values())
        is_due, is_out = time.monotonic() >= self._due, bool(follower.outage)
        if not is_due and is_out == self._was_out:
            return
        self._was_out = is_out
        try:
            self._tell(follower.outage or self._sink.trouble())
            if is_due:
                self._due = time.monotonic() + self._every
                self._report(follower.outage)
        except Exception:
            self._context.log.warning("nothing, or not everything, could be reported this time", exc_info=True)

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._heartbeat.tell_trouble(trouble)
            self._told = trouble

    def _report(self, outage: str) -> None:
        if not outage:
            try:
                self._held = self._sink.held()
            except RetriableError as error:
                outage = str(error)
        result = verdict(self._store, compare(self._settings, self._held))
        if outage:
            result = CheckResult(result.passed, f"{result.detail} {outage}.", result.figures)
        elif time.monotonic() >= self._report_due:
            self._report_due = time.monotonic() + self._settings.report_seconds
            log_event(self._context, self._materialization(result))
            self._rows = 0
        latest = latest_materializations(self._context.instance, {sink_key(self._store)}).get(sink_key(self._store))
        if shown_verdict(self._context.instance, sink_check_key(self._store), latest) != result.passed:
            evaluation = sink_evaluation(self._store, result, latest)
            self._context.instance.report_runless_asset_event(evaluation)

    def _materialization(self, result: CheckResult) -> AssetMaterialization:
        trouble = self._sink.trouble()
        return AssetMaterialization(
            sink_key(self._store),
            metadata={
                "dagster/row_count": self._sink.rows(),
                "rows_since_last_report": self._rows,
                "gold_versions": MetadataValue.json({size: held.version for size, held in self._held.items()}),
                **result.figures,
                **({"trouble": trouble} if trouble else {}),
            },
        )


def _sink_job(store: Store) -> JobDefinition:
    host = _host_op(store)

    @job(
        name=store.job,
        executor_def=in_process_executor,
        tags={NAME_TAG: store.job},
        description=f"Gold → {store.title}, continuously. Kept alive by the sensor `keep_{store.job}_running` if "
        f"{store.variable} is set.",
    )
    def keep_store() -> None:
        """Run the one op that hosts the sink."""
        host()

    return keep_store


sink_postgres, sink_redis = _sink_job(POSTGRES), _sink_job(REDIS)
