"""The job `stream`: one Spark application with the queries of some layers, until somebody cancels it.

Guarantee: the exactly-once of `lakehouse.streams`, whatever ends the run. Another writer of the same tables (a bounded
catch-up, `lakehouse stream` in a terminal) is waited for, not fought.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from typing import TYPE_CHECKING

from dagster import Config, OpExecutionContext, ResourceParam, in_process_executor, job, op
from pydantic import Field

from jobs.hosting import hosting
from jobs.managed_runs import ALL_LAYERS, NAME_TAG, name_of
from jobs.reporting import Reporter
from jobs.run_heartbeat import RunHeartbeat
from lakehouse.errors import LeaseHeldError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.streams.runner import StreamRunner

#: How often the body looks whether its queries live, and how soon a lost lease is noticed, in seconds.
POLL_SECONDS = 1.0
#: How often a held lease is tried again, in seconds.
LEASE_RETRY_SECONDS = 5.0


class StreamConfig(Config):
    """Config of one stream run."""

    layers: list[str] = Field(list(ALL_LAYERS), description="Layers whose queries this run hosts.")


@op
def host_streams(context: OpExecutionContext, config: StreamConfig, settings: ResourceParam[Settings]) -> None:
    """Host the streaming queries: start, watch, report, and stop them in order when the run ends."""
    from lakehouse.streams.runner import StreamRunner  # Spark: seconds of import, so only where it runs

    layers = tuple(config.layers)
    with hosting(context, settings, name_of("stream", layers, ALL_LAYERS)) as lease:
        runner = StreamRunner(settings, layers=layers, run_id=context.run_id)
        try:
            _start(context, runner, lease)
            context.log.info(f"streams {', '.join(layers)} are running")
            _watch(runner, lease, Reporter(context, settings, layers))
        finally:
            runner.stop()


def _start(context: OpExecutionContext, runner: "StreamRunner", lease: RunHeartbeat) -> None:
    """Start, waiting for as long as another process writes these tables."""
    said = False
    while True:
        try:
            runner.start()
            return
        except LeaseHeldError as error:
            if not said:
                context.log.info(f"waiting: {error}")
                said = True
            lease.hold(LEASE_RETRY_SECONDS)


def _watch(runner: "StreamRunner", lease: RunHeartbeat, reporter: Reporter) -> None:
    """Until a query dies (StreamFailedError), the lease is lost, or bounded queries (`available-now`) have finished."""
    while not runner.finished():
        runner.check()
        lease.hold(POLL_SECONDS)
        if reporter.due():
            reporter.look(runner.progress)
    reporter.look(runner.progress, last=True)


@job(
    executor_def=in_process_executor,
    tags={NAME_TAG: "stream"},
    description="Kafka → bronze → silver → gold, continuously. Kept alive by the sensor `keep_stream_running`.",
)
def stream() -> None:
    """Host the streams."""
    host_streams()
