"""The job `catch_up`: bring every table to the newest data of this moment, run every check, end.

It consists of ops and is not an asset job: Gold's assets are partitioned by day, and Dagster's UI launches no job over
them without days, while a catch-up covers everything new. It still reports the assets' materializations and verdicts.
Guarantee: the checks of a layer run right after it; a blocking check that fails ends the run before the layer above
reads the table.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import time

from dagster import (
    Failure,
    In,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    ResourceParam,
    in_process_executor,
    job,
    op,
)

from assets.checks import check_evaluation, checks_of
from assets.failures import one_line_failures
from assets.layers import CatchUpConfig
from assets.lineage import table_key
from assets.metadata import ledger_materialization, materializations
from assets.verdicts import latest_materializations
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, OPS_CHECKS, Layer


def _layer_op(layer: Layer, first: bool = False) -> OpDefinition:
    @op(
        name=f"catch_up_{layer}",
        ins={} if first else {"below": In(Nothing)},
        out=Out(Nothing),
        description=f"Brings {layer} to the newest data, then evaluates its checks.",
    )
    def catch_up_layer(context: OpExecutionContext, config: CatchUpConfig, settings: ResourceParam[Settings]) -> None:
        from lakehouse.streams.materialize import materialize  # imports Spark, which takes seconds

        since = time.time()
        with one_line_failures():
            progress = materialize(settings, layers=(layer,), run_id=context.run_id, timeout=config.timeout_seconds)
            for table in progress.values():
                for event in materializations(settings, table, since):
                    context.log_event(event)
            _evaluate_checks(context, settings, (layer, "ops") if layer == "gold" else (layer,))
            for ledger in (OPS_BATCHES, OPS_CHECKS):
                context.log_event(ledger_materialization(settings, ledger))

    return catch_up_layer


def _evaluate_checks(context: OpExecutionContext, settings: Settings, layers: tuple[str, ...]) -> None:
    """Record the verdicts. Raises Failure if a blocking check fails: what is computed from the table would be wrong."""
    failed: list[str] = []
    results = run_checks(settings, checks_of(settings, layers), run_id=context.run_id)
    latest = latest_materializations(context.instance, {table_key(check.table_path) for check, _ in results})
    for check, result in results:
        evaluation = check_evaluation(check, result, latest.get(table_key(check.table_path)))
        context.log_event(evaluation)  # type: ignore[arg-type]  # handled, the annotation lacks it
        if check.blocking and not result.passed:
            failed.append(f"{check.name} of {check.table_path}: {result.detail}")
    if failed:
        raise Failure(
            f"blocking checks failed, so nothing above was computed: {'; '.join(failed)}", allow_retries=False
        )


_bronze, _silver, _gold = _layer_op("bronze", first=True), _layer_op("silver"), _layer_op("gold")


@job(
    # One process, and so one Spark session, for all layers.
    executor_def=in_process_executor,
    description="Bounded: brings bronze, silver and gold to the newest data of this moment and runs every check. "
    "If a live stream writes them, waits until it has passed that point.",
)
def catch_up() -> None:
    """Run the op of each layer once: Bronze, then Silver, then Gold."""
    _gold(_silver(_bronze()))
