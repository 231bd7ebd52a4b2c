"""The job `rebuild_gold`: rebuild Gold for days chosen in the UI or named on the command line.

dagster job launch -j rebuild_gold -w workspace.yaml --tags '{"dagster/asset_partition_range_start": "2026-11-18",
    "dagster/asset_partition_range_end": "2026-11-20"}'
"""

from __future__ import annotations

from dagster import AssetSelection, define_asset_job, in_process_executor

rebuild_gold = define_asset_job(
    "rebuild_gold",
    selection=AssetSelection.groups("gold"),
    executor_def=in_process_executor,
    description="Bounded: rebuilds the chosen UTC days of all of Gold from Silver, in one run, then runs its checks. "
    "If today is among them, first brings Gold to the newest data. Safe beside a live stream.",
)
