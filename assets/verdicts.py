"""Verdicts in Dagster: the materialization that a verdict is about, and the verdict that the UI shows.

The UI shows a check's newest verdict if it is about the table's latest materialization, else "Not evaluated" (Dagster's
`AssetCheckExecutionRecord.targets_latest_materialization`). So each verdict names its materialization.

This is the only module that uses parts of Dagster outside its public API, which offers no other way: the class that
names a materialization, and `DagsterInstance.get_latest_asset_check_evaluation_record`.
"""

from __future__ import annotations

from collections.abc import Collection

from dagster import AssetCheckEvaluation, AssetCheckKey, AssetKey, DagsterInstance
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Materialized,
)

__all__ = ["Materialized", "latest_materializations", "shown_verdict"]


def latest_materializations(instance: DagsterInstance, keys: Collection[AssetKey]) -> dict[AssetKey, Materialized]:
    """Return the latest materialization, of any partition and by any run, of each asset that has one."""
    found: dict[AssetKey, Materialized] = {}
    for record in instance.get_asset_records(list(keys)) if keys else ():
        last = record.asset_entry.last_materialization_record
        if last is not None:
            found[record.asset_entry.asset_key] = Materialized(
                storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp
            )
    return found


def shown_verdict(instance: DagsterInstance, key: AssetCheckKey, latest: Materialized | None) -> bool | None:
    """Return the verdict of a check that the UI shows: True if passed, False if failed, None if it shows no verdict.

    `latest` is the latest materialization of the check's table, None if there is none: a verdict about an earlier one
    is not shown.
    """
    record = instance.get_latest_asset_check_evaluation_record(key)
    evaluation = record.evaluation if record else None
    if not isinstance(evaluation, AssetCheckEvaluation):  # none yet, or one that a run has only planned
        return None
    about = evaluation.target_materialization_data
    return evaluation.passed if latest is None or (about and about.storage_id == latest.storage_id) else None
