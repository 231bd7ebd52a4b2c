"""The checks of `lakehouse.quality` as asset checks: one op per layer, each check runnable alone from the UI.

They are definitions of their own and not `check_specs` of the layers' assets, because Dagster takes a check's key once
only and checks inside a multi-asset can run by hand only together with it. In a bounded job they still run right after
their layer, and a blocking one that fails stops the layers above. While a stream runs it evaluates the same functions
itself (`jobs.reporting`).
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from collections.abc import Iterator

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    ResourceParam,
    multi_asset_check,
)

from assets.failures import one_line_failures
from assets.lineage import table_key
from lakehouse.quality.checks import CHECKS, Check, CheckResult, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import BY_PATH


def check_key(check: Check) -> AssetCheckKey:
    """The asset check key of a check."""
    return AssetCheckKey(table_key(check.table_path), check.name)


def severity(check: Check) -> AssetCheckSeverity:
    """A failed blocking check is an error: what is computed from the table would be wrong. Others warn."""
    return AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN


def checks_of(layers: tuple[str, ...]) -> tuple[Check, ...]:
    """The checks on the tables of some layers."""
    return tuple(check for check in CHECKS if BY_PATH[check.table_path].layer in layers)


def _layer_checks(layer: str) -> AssetChecksDefinition:
    checks = {check_key(check): check for check in checks_of((layer,))}
    specs = [
        AssetCheckSpec(check.name, asset=key.asset_key, description=check.description, blocking=check.blocking)
        for key, check in checks.items()
    ]

    @multi_asset_check(name=f"{layer}_checks", specs=specs, can_subset=True)
    def evaluate_checks(
        context: AssetCheckExecutionContext, settings: ResourceParam[Settings]
    ) -> Iterator[AssetCheckResult]:
        selected = [check for key, check in checks.items() if key in context.selected_asset_check_keys]
        with one_line_failures():
            for check, result in run_checks(settings, selected, run_id=context.run.run_id):
                yield _asset_check_result(check, result)

    return evaluate_checks


def _asset_check_result(check: Check, result: CheckResult) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=table_key(check.table_path),
        check_name=check.name,
        passed=result.passed,
        severity=severity(check),
        description=result.detail,
        metadata=dict(result.figures),
    )


#: One definition per layer that has checks, in the order of the trade's way.
ALL_CHECKS: list[AssetChecksDefinition] = [
    _layer_checks(layer) for layer in ("bronze", "silver", "gold", "ops") if checks_of((layer,))
]
