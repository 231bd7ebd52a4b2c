"""The job `catch_up`: bring every table to the newest data of this moment, run every check, end."""

from __future__ import annotations

from dagster import AssetSelection, define_asset_job, in_process_executor

catch_up = define_asset_job(
    "catch_up",
    selection=AssetSelection.all() | AssetSelection.all_asset_checks(),
    # One process for all layers, so one Spark session.
    executor_def=in_process_executor,
    description="Bounded: brings bronze, silver and gold to the newest data of this moment and runs every check. "
    "Where a live stream writes them, waits until it has passed that point.",
)
