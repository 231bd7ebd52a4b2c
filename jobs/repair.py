"""The job `repair`: repair the open gaps that ingest has left, ask venues again for trades that they lacked, then end.

Guarantee: that of `lakehouse.repair.run`. A gap that cannot be repaired does not fail the run: the run's figures show
it, and the sensor `mend_holes` launches the next run, after a longer wait if nothing has changed.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from dataclasses import asdict

from dagster import AssetObservation, Config, OpExecutionContext, ResourceParam, in_process_executor, job, op
from pydantic import Field

from assets.lineage import table_key
from jobs.managed_runs import GAPS_TAG, NAME_TAG, REPAIR
from jobs.run_heartbeat import hosting
from lakehouse.continuity.gaps import gaps_to_repair
from lakehouse.repair.run import REPAIR_SECONDS, RepairReport, digest, repair_gaps
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY


class RepairConfig(Config):
    """Config of one repair run."""

    older_than_seconds: float | None = Field(
        None, ge=0, description="Younger gaps are left to ingest. Default: the setting repair_after_seconds."
    )
    unavailable: bool = Field(
        False, description="Ask again for all unavailable trade ids. Default: for those that are due."
    )
    timeout_seconds: float = Field(REPAIR_SECONDS, gt=0, description="How long it may ask the venues.")


@op(name="mend_open_holes")
def repair_open_gaps(context: OpExecutionContext, config: RepairConfig, settings: ResourceParam[Settings]) -> None:
    """Fetch missing trades over REST and send them to Kafka; if Silver's stream is live, wait a bounded time for it."""
    with hosting(context, settings, REPAIR) as heartbeat:
        older_than = settings.repair_after_seconds if config.older_than_seconds is None else config.older_than_seconds
        gaps = gaps_to_repair(settings, older_than, config.unavailable)
        # Before the work: however this run ends, the sensor can tell whether the next one would face the same gaps.
        context.instance.add_run_tags(context.run_id, {GAPS_TAG: digest(gaps)})
        report = repair_gaps(settings, gaps, config.timeout_seconds, hold=heartbeat.hold)
        figures = _figures(report)
        context.log.info(", ".join(f"{name} {figure}" for name, figure in figures.items()))
        context.log_event(AssetObservation(table_key(SILVER_CONTINUITY.path), metadata=figures))
        context.add_output_metadata(figures)


def _figures(report: RepairReport) -> dict[str, int | str]:
    # The metadata key `holes` is older than the word gap, and plots go by it.
    figures = {"holes" if name == "gaps" else name: figure for name, figure in asdict(report).items()}
    if report.still_open is None:
        figures["still_open"] = "not known: no Silver stream is live"
    return figures


@job(
    executor_def=in_process_executor,
    tags={NAME_TAG: REPAIR},
    description="Bounded: repairs the open gaps of silver/continuity over the venues' REST history, and asks again for "
    "trades that the venues did not have, minutes and an hour later. Launched by the sensor `mend_holes` if there is "
    "anything to ask for.",
)
def repair() -> None:
    """Run the one op that repairs open gaps."""
    repair_open_gaps()
