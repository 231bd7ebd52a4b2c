"""The job `ingest`: the venues' sockets into Kafka, until it is canceled, or a feed, a repair or the producer fails.

It also ends if its code server is gone. If it fails, the sensor `keep_ingest_running` launches it again. Guarantee and
limits are those of `lakehouse.ingest`. When it ends, it closes the sockets, then waits for Kafka's acknowledgements,
both within STOP_SECONDS.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import time
from typing import Literal

from dagster import AssetMaterialization, Config, OpExecutionContext, ResourceParam, in_process_executor, job, op
from pydantic import Field

from assets.lineage import topic_key
from jobs.managed_runs import NAME_TAG, name_of
from jobs.run_heartbeat import RunHeartbeat, hosting, log_event
from lakehouse.ingest.service import IngestService
from lakehouse.ingest.stats import IngestStats, refusals_text
from lakehouse.settings import Settings

#: Seconds between two looks at the feeds; also how soon the body notices that the run is no longer wanted.
POLL_SECONDS = 1.0
#: Seconds for sockets to close and Kafka to acknowledge; less than a container or `lakehouse` gives a run to end.
STOP_SECONDS = 6.0


class IngestConfig(Config):
    """Config of one ingest run."""

    venues: list[str] = Field([], description="Venues this run ingests; none means those of the settings.")


@op
def host_ingest(context: OpExecutionContext, config: IngestConfig, settings: ResourceParam[Settings]) -> None:
    """Host the ingest service: start it, watch it, report on it, and stop it when the run ends."""
    venues = tuple(config.venues) or settings.venues
    with hosting(context, settings, name_of("ingest", venues, settings.venues)) as heartbeat:
        service = IngestService(settings, venues=venues)
        try:
            service.start()
            context.log.info(f"ingesting {', '.join(venues)}; metrics on port {service.stats().metrics_port}")
            _watch(context, settings, service, heartbeat)
        finally:
            unflushed = service.stop(STOP_SECONDS)
            if unflushed:
                context.log.warning(f"{unflushed} messages were not acknowledged by Kafka; the next run repairs it")


def _watch(context: OpExecutionContext, settings: Settings, service: IngestService, heartbeat: RunHeartbeat) -> None:
    """Watch and report until a feed or the producer dies, or the run is no longer wanted."""
    due = time.monotonic() + min(10.0, settings.report_seconds)
    last: IngestStats | None = None
    while True:
        service.check()
        heartbeat.hold(POLL_SECONDS)
        if time.monotonic() >= due:
            due = time.monotonic() + settings.report_seconds
            stats = service.stats()
            for materialization in _materializations(settings, stats, last):
                log_event(context, materialization)
            last = stats


def _materializations(settings: Settings, stats: IngestStats, last: IngestStats | None) -> list[AssetMaterialization]:
    """Materializations of the topics: what this run has sent in all, and since the last report."""
    connected = sum(venue.connected for venue in stats.venues)
    trades = AssetMaterialization(
        topic_key(settings.topic_trades),
        metadata={
            "produced": stats.produced,
            "acknowledged": stats.acked,
            "acknowledged_since_last_report": stats.acked - (last.acked if last else 0),
            "unacknowledged": stats.unacknowledged,
            "venues_connected": f"{connected} of {len(stats.venues)}",
            "gaps": sum(venue.gaps for venue in stats.venues),
            "missed": sum(venue.missing for venue in stats.venues),
            "repaired": sum(venue.repaired for venue in stats.venues),
            "unavailable": sum(venue.unavailable for venue in stats.venues),
            "open_gap_ids": sum(venue.open_ids for venue in stats.venues),
            "rest_requests": sum(venue.requests for venue in stats.venues),
            "rest_budget_used": max((venue.budget_used for venue in stats.venues), default=0.0),
            "reconnects": sum(venue.reconnects for venue in stats.venues),
            "rotations": sum(venue.rotations for venue in stats.venues),
            "not_subscribed": _named(stats, "unsubscribed"),
            "refused": _named(stats, "refused"),
            **_troubles(stats),
        },
    )
    rejected = sum(venue.rejected for venue in stats.venues)
    if rejected == (sum(venue.rejected for venue in last.venues) if last else 0):
        return [trades]
    return [trades, AssetMaterialization(topic_key(settings.topic_rejected), metadata={"rejected": rejected})]


def _named(stats: IngestStats, of: Literal["unsubscribed", "refused"]) -> str:
    """`kraken: FOO/USD (why), …`; `none` if there is none."""
    named = {(venue.venue, symbol): why for venue in stats.venues for symbol, why in getattr(venue, of).items()}
    return refusals_text(named) or "none"


def _troubles(stats: IngestStats) -> dict[str, str]:
    """Why venues are not connected, in their words, and why Kafka does not acknowledge; empty if all is well."""
    down = [f"{venue.venue}: {venue.last_error}" for venue in stats.venues if not venue.connected and venue.last_error]
    troubles = {"down": "; ".join(down), "kafka_trouble": stats.kafka_trouble}
    return {name: text for name, text in troubles.items() if text}


@job(
    executor_def=in_process_executor,
    tags={NAME_TAG: "ingest"},
    description="Exchanges' WebSocket feeds → Kafka, continuously. Kept alive by the sensor `keep_ingest_running`.",
)
def ingest() -> None:
    """Run the one op that hosts the ingest service."""
    host_ingest()
