"""What the bodies of the long-running jobs have in common: the lease, and errors as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetMaterialization, OpExecutionContext

from assets.failures import one_line_failures
from jobs.run_heartbeat import RunHeartbeat
from lakehouse.errors import TerminalError
from lakehouse.settings import Settings


@contextmanager
def hosting(context: OpExecutionContext, settings: Settings, name: str) -> Iterator[RunHeartbeat]:
    """Hold the lease of the kept work `name` around the body; our errors become one-line failures.

    A terminal error is recorded in the run's tags before the run ends, for the supervisor to read.
    """
    with one_line_failures(), RunHeartbeat(context.instance, context.run_id, name, settings.heartbeat_seconds) as lease:
        try:
            yield lease
        except TerminalError as error:
            lease.mark_terminal(str(error))
            raise


def log_event(context: OpExecutionContext, event: AssetMaterialization) -> None:
    """Record an event, visible at once, without keeping it in memory.

    Dagster records it when it is logged and holds it until the op ends, which is days away: some 80 MB a day.
    """
    context.log_event(event)
    for _ in context.consume_events():
        pass
