"""The runner of the streams, from `start` to `stop`."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import RetriableError
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import standalone_run_id
from lakehouse.lake.lease import Lease
from lakehouse.runtime.spark_session import build_session, expect_session
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchReport
from lakehouse.streams.progress import (
    LayerCounter,
    TableProgress,
    has_passed,
    last_position,
    layer_progress,
)
from lakehouse.streams.queries import Started, require_layers, start_query
from lakehouse.streams.unfinished import require_finished
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

#: Seconds between two looks at a layer for which `follow` waits, and seconds without work after which it gives up.
FOLLOW_POLL_SECONDS, QUIET_SECONDS = 0.1, 2.0

#: Seconds for which a stop waits for a running batch: most end by then, and a batch that is cut only runs again.
BATCH_GRACE_SECONDS = 5.0


class StreamFailedError(RetriableError):
    """Raised if a streaming query ended by itself; its checkpoint and tables are whole, and it can be started again."""


class StreamRunner:
    """One Spark application with the queries of some layers, from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        layers: tuple[str, ...] = LAYERS,
        run_id: str | None = None,
        trigger: str | None = None,
    ) -> None:
        """Prepare to run; `trigger` is Bronze's interval or `available-now`, None for that of the settings."""
        self.settings = settings
        self._trigger = trigger or settings.trigger
        self.layers = require_layers(layers)
        self.run_id = run_id or standalone_run_id()
        self._lease = Lease(settings, self.layers, self.run_id)
        self._queries: dict[str, Started] = {}
        self.counters = {layer: LayerCounter() for layer in self.layers}
        self._upkeep = Upkeep(settings, self.layers)
        self._guard = threading.Lock()

    def start(self) -> None:
        """Take the lease, make sure that tables and topics exist, build the Spark session and start the queries.

        Raises LeaseHeldError, BrokerUnavailableError, MissingDependencyError, or TerminalError if a rebuild was cut,
        all before any batch is written; RetriableError if a query cannot start. Queries that were started are stopped.
        """
        self._lease.acquire()
        try:
            require_finished(self.settings, self.layers)
            expect_session(self.settings)
            prepare(self.settings, self.layers)
            spark = build_session(self.settings)
            for layer in self.layers:
                self._queries[layer] = start_query(spark, self.settings, layer, self.run_id, self._count, self._trigger)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Do the work that is due without a batch. Raises StreamFailedError once a query has ended."""
        for layer, started in self._queries.items():
            if not started.query.isActive:
                raise stream_failure(layer, started.query)
            self._upkeep.attempt(f"{layer} without a batch", started.idle)
        self._upkeep.idle()

    def finished(self) -> bool:
        """Return True if every query has ended without an error (trigger `available-now`)."""
        queries = [started.query for started in self._queries.values()]
        return all(not query.isActive and query.exception() is None for query in queries)

    def follow(self, layer: str, target: dict[str, Any], deadline: float) -> bool:
        """Wait until a layer has read its source up to `target`, and return True.

        Return False if its query has ended, has had no work for QUIET_SECONDS, or `deadline` (monotonic clock, in
        seconds) has come. Raises like `check`.
        """
        quiet_since = time.monotonic()
        # The number of batches at the last look into ops/batches, which changes only with the next one.
        looked_after = None
        position = None
        while time.monotonic() < deadline:
            started = self._queries.get(layer)
            if started is None or not started.query.isActive:
                return False
            if looked_after != (batches := self.counters[layer].batches):
                looked_after, position = batches, last_position(self.settings, layer)
            if has_passed(position, target, layer):
                self.check()
                return True
            if started.query.status["isTriggerActive"]:
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since > QUIET_SECONDS:
                return False
            time.sleep(FOLLOW_POLL_SECONDS)
        return False

    def progress(self) -> dict[str, TableProgress]:
        """Return table path → progress for the tables of all layers."""
        result: dict[str, TableProgress] = {}
        with self._guard:
            for layer in self.layers:
                result |= layer_progress(self.settings, layer, self.counters[layer])
        return result

    def stop(self, timeout: float = 30.0, grace: float = BATCH_GRACE_SECONDS) -> None:
        """Stop the queries within `timeout` seconds and give the lease back.

        Running batches have `grace` seconds to end, at most half of `timeout`; one that is cut runs again later.
        """
        deadline = time.monotonic() + timeout
        grace = min(grace, timeout / 2)
        stoppers = [
            threading.Thread(target=_stop_between_batches, args=(one.query, grace), name=f"stop-{layer}", daemon=True)
            for layer, one in self._queries.items()
            if one.query.isActive
        ]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join(max(0.0, deadline - time.monotonic()))
        for one in self._queries.values():
            one.close()
        self._queries.clear()
        self._lease.release()

    def _count(self, report: BatchReport) -> None:
        with self._guard:
            self.counters[report.query].count(report)

    def __enter__(self) -> StreamRunner:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _stop_between_batches(query: StreamingQuery, grace: float) -> None:
    """Stop a query when it is between two batches, or after `grace` seconds in the middle of one."""
    deadline = time.monotonic() + grace
    while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
        time.sleep(0.05)
    query.stop()


def prepare(settings: Settings, layers: tuple[str, ...]) -> None:
    """Make sure that the tables exist, and the topics if Bronze is among the layers."""
    if "bronze" in layers:
        ensure_topics(settings)
    table_io.ensure_tables(settings)


def stream_failure(layer: str, query: StreamingQuery) -> StreamFailedError:
    """Make the error for a layer's query that has ended; its text gives the reason in one line."""
    error = query.exception()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] if error else ["no error given"]
    ours = [line.partition("BatchFailed: ")[2] for line in lines if "BatchFailed: " in line]
    reason = (ours or lines)[0][:500]
    return StreamFailedError(
        f"the {layer} stream ended: {reason}", "it to run until stopped", "it can be started again"
    )
