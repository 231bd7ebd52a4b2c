"""Bring tables to the newest data of this moment: run a stream's queries to their end, or wait for the live stream."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from types import TracebackType

from lakehouse.errors import LakehouseError, LeaseHeldError
from lakehouse.lake.batch_log import standalone_run_id
from lakehouse.lake.lease import Lease
from lakehouse.runtime.spark_session import build_session, expect_session
from lakehouse.settings import AVAILABLE_NOW, Settings
from lakehouse.streams.progress import (
    LayerCounter,
    TableProgress,
    has_passed,
    last_position,
    layer_progress,
    newest_position,
    source_lag,
)
from lakehouse.streams.queries import FOLLOW, require_layers, start_query
from lakehouse.streams.runner import StreamFailedError, StreamRunner, prepare, stream_failure
from lakehouse.streams.unfinished import require_finished
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import LAYERS

#: Seconds between two looks of a waiting materialization at the live stream's progress.
WAIT_POLL_SECONDS = 1.0


def materialize(
    settings: Settings, layers: tuple[str, ...] = LAYERS, run_id: str | None = None, timeout: float = 3600.0
) -> dict[str, TableProgress]:
    """Bring the layers' tables to the newest data of this moment, and return table path → progress.

    If nobody holds a layer's lease, its query runs with `available-now`, to its end before the next layer's ends; else
    wait until the live stream has passed that point. Raises StreamFailedError if a query fails, or if the live stream
    needs more than `timeout` seconds for a layer; TerminalError if a rebuild of Silver was cut.
    """
    layers = require_layers(layers)
    run_id = run_id or standalone_run_id()
    result: dict[str, TableProgress] = {}
    is_ours = _is_free(settings, layers[0])
    if is_ours:
        require_finished(settings, layers[:1])  # before a JVM is started that would write into the refusal's one line
        expect_session(settings)
    prepare(settings, layers)
    lag = _messages_to_come(settings, layers)
    is_long = lag > settings.max_offsets_per_trigger
    if is_long:
        settings = _in_equal_batches(settings, lag)
    with _Followers(settings, layers[1:] if is_long else (), run_id) as followers:
        for layer in layers:
            counter, is_done = followers.end(layer, timeout)
            if is_done:
                result |= layer_progress(settings, layer, counter)
            else:
                result |= _bring_up_to_date(settings, layer, run_id, counter, time.monotonic() + timeout)
    return result


class _Followers:
    """The queries of the layers after the first, at work on what it writes: a long catch-up uses more than one core.

    They start beside the first layer's first batch. A layer whose lease another process holds, or whose query cannot
    start, is left out: its error shows when its turn comes.
    """

    def __init__(self, settings: Settings, layers: tuple[str, ...], run_id: str) -> None:
        self._runners = {layer: StreamRunner(settings, (layer,), run_id, FOLLOW) for layer in layers}
        self._starters = {
            layer: threading.Thread(target=self._start, args=(layer,), name=f"follow-{layer}") for layer in layers
        }

    def _start(self, layer: str) -> None:
        with contextlib.suppress(LakehouseError):
            self._runners[layer].start()

    def end(self, layer: str, timeout: float) -> tuple[LayerCounter, bool]:
        """End a layer's query when it has come to the newest data, or has nothing to do, and its batch is done.

        Returns its counts (zeros if the layer has no such query), and True if it has come to the newest data.
        """
        if layer not in self._runners:
            return LayerCounter(), False
        self._starters.pop(layer).join()
        runner = self._runners.pop(layer)
        is_done = runner.follow(layer, newest_position(runner.settings, layer), time.monotonic() + timeout)
        runner.stop(timeout, grace=timeout)
        return runner.counters[layer], is_done

    def __enter__(self) -> _Followers:
        for starter in self._starters.values():
            starter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in tuple(self._runners):
            self._starters.pop(layer).join()
            self._runners.pop(layer).stop(timeout=30.0, grace=30.0)


def _messages_to_come(settings: Settings, layers: tuple[str, ...]) -> int:
    """Return the number of messages that Bronze is behind; 0 if no layer follows it, or if Kafka does not answer.

    If it is small, the layers run one after the other: to start all queries at once costs more.
    """
    if layers[:1] != ("bronze",) or len(layers) == 1:
        return 0
    return source_lag(settings, "bronze") or 0


def _in_equal_batches(settings: Settings, messages: int) -> Settings:
    """Return settings with which that many `messages` become batches of equal size, none above the set maximum.

    A small last batch would go through the three layers one after the other.
    """
    most = settings.max_offsets_per_trigger
    # Spark rounds each partition's part down, hence the sum at the end.
    share = math.ceil(messages / math.ceil(messages / most)) + settings.topic_partitions + len(settings.topics)
    return settings.model_copy(update={"max_offsets_per_trigger": min(most, share)})


def _is_free(settings: Settings, layer: str) -> bool:
    """Return True if nobody holds a layer's lease at this moment."""
    try:
        with Lease(settings, (layer,), "probe"):
            return True
    except LeaseHeldError:
        return False


def _bring_up_to_date(
    settings: Settings, layer: str, run_id: str, counter: LayerCounter, deadline: float
) -> dict[str, TableProgress]:
    while True:
        lease = Lease(settings, (layer,), run_id)
        try:
            lease.acquire()
        except LeaseHeldError:
            if _wait_for_live_stream(settings, layer, deadline):
                return layer_progress(settings, layer, counter)
            continue
        try:
            return _catch_up(settings, layer, run_id, counter)
        finally:
            lease.release()


def _catch_up(settings: Settings, layer: str, run_id: str, counter: LayerCounter) -> dict[str, TableProgress]:
    require_finished(settings, (layer,))
    session = build_session(settings)
    # Not before: followers build the session too, and two threads that import pyspark at once fail in its circles.
    from pyspark.errors import StreamingQueryException

    started = start_query(session, settings, layer, run_id, counter.count, AVAILABLE_NOW)
    query, upkeep = started.query, Upkeep(settings, (layer,))
    try:
        while query.isActive:
            with contextlib.suppress(StreamingQueryException):  # it is raised below, in one line
                query.awaitTermination(1)
            upkeep.idle()
        if query.exception() is not None:
            raise stream_failure(layer, query)
        upkeep.attempt(f"{layer} without a batch", started.idle)
        upkeep.do()
    finally:
        if query.isActive:
            query.stop()
        started.close()
    return layer_progress(settings, layer, counter)


def _wait_for_live_stream(settings: Settings, layer: str, deadline: float) -> bool:
    """Wait until the live stream has passed the newest data of now. Return False if the lease becomes free instead.

    Raises StreamFailedError if neither happens until `deadline` (monotonic clock, in seconds).
    """
    target = newest_position(settings, layer)
    while time.monotonic() < deadline:
        if has_passed(last_position(settings, layer), target, layer):
            return True
        if _is_free(settings, layer):
            return False
        time.sleep(WAIT_POLL_SECONDS)
    raise StreamFailedError(
        f"the live stream did not bring {layer} to the newest data in time", "it to pass that point", "look at its run"
    )
