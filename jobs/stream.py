"""The job `stream`: one Spark application with the queries of some layers, until it is canceled or a query dies.

It also ends if its code server is gone, and when its queries end because their trigger is bounded. If a query dies, the
run fails, and the sensor `keep_stream_running` launches it again.
Guarantee: exactly once, as in `lakehouse.streams`, whatever ends the run. If another process writes the same tables (a
bounded catch-up, `lakehouse stream` in a terminal), the run waits for it.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from typing import TYPE_CHECKING

from dagster import Config, OpExecutionContext, ResourceParam, in_process_executor, job, op
from pydantic import Field

from jobs.managed_runs import ALL_LAYERS, NAME_TAG, name_of
from jobs.reporting import Reporter
from jobs.run_heartbeat import RunHeartbeat, hosting
from lakehouse.errors import LeaseHeldError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.streams.runner import StreamRunner

#: Seconds between two looks at the queries; also how soon the body notices that the run is no longer wanted.
POLL_SECONDS = 1.0
#: Seconds between two tries to take tables that another process writes.
LEASE_RETRY_SECONDS = 5.0


class StreamConfig(Config):
    """Config of one stream run."""

    layers: list[str] = Field(list(ALL_LAYERS), description="Layers whose queries this run hosts.")


@op
def host_streams(context: OpExecutionContext, config: StreamConfig, settings: ResourceParam[Settings]) -> None:
    """Host the streaming queries: start them, watch them, report on them, and stop them when the run ends."""
    from lakehouse.streams.runner import StreamRunner  # imports Spark, which takes seconds

    layers = tuple(config.layers)
    with hosting(context, settings, name_of("stream", layers, ALL_LAYERS)) as heartbeat:
        runner = StreamRunner(settings, layers=layers, run_id=context.run_id)
        try:
            _start(context, runner, heartbeat)
            context.log.info(f"streams {', '.join(layers)} are running")
            _watch(runner, heartbeat, Reporter(context, settings, layers))
        finally:
            runner.stop()


def _start(context: OpExecutionContext, runner: "StreamRunner", heartbeat: RunHeartbeat) -> None:
    """Start; wait as long as another process writes these tables."""
    said = False
    while True:
        try:
            runner.start()
            return
        except LeaseHeldError as error:
            if not said:
                context.log.info(f"waiting: {error}")
                said = True
            heartbeat.hold(LEASE_RETRY_SECONDS)


def _watch(runner: "StreamRunner", heartbeat: RunHeartbeat, reporter: Reporter) -> None:
    """Watch and report until a query dies (StreamFailedError), the run is no longer wanted, or bounded queries end."""
    while not runner.finished():
        runner.check()
        heartbeat.hold(POLL_SECONDS)
        if reporter.due():
            reporter.look(runner.progress)
    reporter.look(runner.progress, last=True)


@job(
    executor_def=in_process_executor,
    tags={NAME_TAG: "stream"},
    description="Kafka → bronze → silver → gold, continuously. Kept alive by the sensor `keep_stream_running`.",
)
def stream() -> None:
    """Run the one op that hosts the streaming queries."""
    host_streams()
