"""The checks of `lakehouse.quality` as asset checks: one op per layer, each check runnable alone from the UI.

They are separate definitions and not `check_specs` of the layers' assets: Dagster accepts a check's key only once, and
a check inside a multi-asset can be run by hand only together with its assets. If a layer is materialized by hand, its
checks follow in the same run. A stream evaluates the same functions itself (`jobs.reporting`), and so does the job
`catch_up`.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from collections.abc import Iterator

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    Output,
    ResourceParam,
    multi_asset_check,
)

from assets.failures import one_line_failures
from assets.lineage import table_key
from assets.sinks import sink_checks
from assets.verdicts import Materialized, latest_materializations
from lakehouse.quality.checks import Check, CheckResult, checks_of_lake, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import BY_PATH

#: Events that Dagster accepts from an op of checks.
Verdict = AssetCheckResult | AssetCheckEvaluation | Output[None]


def check_key(check: Check) -> AssetCheckKey:
    """Return Dagster's key of a check: the asset key of its table, and its name."""
    return AssetCheckKey(table_key(check.table_path), check.name)


def severity(check: Check) -> AssetCheckSeverity:
    """Return ERROR for a blocking check, because tables computed from a wrong table are wrong too; else WARN."""
    return AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN


def checks_of(settings: Settings, layers: tuple[str, ...]) -> tuple[Check, ...]:
    """Return this lakehouse's checks of the tables of some layers, such as ("bronze", "ops")."""
    return tuple(check for check in checks_of_lake(settings) if BY_PATH[check.table_path].layer in layers)


def all_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """Define Dagster's asset checks: one definition per layer that has checks, then one per sink.

    Layers are in the order bronze, silver, gold, ops.
    """
    layers = [layer for layer in ("bronze", "silver", "gold", "ops") if checks_of(settings, (layer,))]
    return [*(_layer_checks(settings, layer) for layer in layers), *sink_checks()]


def check_evaluation(
    check: Check, result: CheckResult, about: Materialized | None, note: str = "", partition: str | None = None
) -> AssetCheckEvaluation:
    """Make the Dagster event of a verdict, for code that does not run the check's own definition.

    `about`: the materialization that the verdict judges, None if the table has none. `note`: text that is appended to
    the verdict's sentence. `partition`: the UTC day, such as 2026-11-18, for which the UI shows the verdict; None for
    the whole table.
    """
    return AssetCheckEvaluation(
        asset_key=table_key(check.table_path),
        check_name=check.name,
        passed=result.passed,
        severity=severity(check),
        description=f"{result.detail}{note}",
        metadata=dict(result.figures),
        blocking=check.blocking,
        target_materialization_data=about,
        partition=partition,
    )


def _layer_checks(settings: Settings, layer: str) -> AssetChecksDefinition:
    checks = {check_key(check): check for check in checks_of(settings, (layer,))}

    @multi_asset_check(name=f"{layer}_checks", specs=[_spec(check) for check in checks.values()], can_subset=True)
    def evaluate_checks(context: AssetCheckExecutionContext, settings: ResourceParam[Settings]) -> Iterator[Verdict]:
        selected = [check for key, check in checks.items() if key in context.selected_asset_check_keys]
        with one_line_failures():
            results = run_checks(settings, selected, run_id=context.run.run_id)
        days = context.run.partitions_subset
        if days is None:
            for check, result in results:
                yield _asset_check_result(check, result)
        else:
            yield from _day_by_day(context, results, list(days.get_partition_keys()))

    return evaluate_checks


def _spec(check: Check) -> AssetCheckSpec:
    key = table_key(check.table_path)
    return AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.blocking)


def _day_by_day(
    context: AssetCheckExecutionContext, results: list[tuple[Check, CheckResult]], days: list[str]
) -> Iterator[Verdict]:
    """Yield the verdicts of a run over days of Gold.

    Dagster plans each check once for each of the run's days, though the checks have no partitions, and shows a check
    without a verdict for a day as skipped. A verdict is about the whole table, so it is yielded for each day.
    """
    latest = latest_materializations(context.instance, {table_key(check.table_path) for check, _ in results})
    for check, result in results:
        yield Output(None, output_name=_spec(check).get_python_identifier())  # what Dagster derives from a result
        for day in days:
            yield check_evaluation(check, result, latest.get(table_key(check.table_path)), partition=day)


def _asset_check_result(check: Check, result: CheckResult) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=table_key(check.table_path),
        check_name=check.name,
        passed=result.passed,
        severity=severity(check),
        description=result.detail,
        metadata=dict(result.figures),
    )
