"""Composition root: merges assets, checks, jobs, sensors and resources, and applies what holds for all of them."""

from __future__ import annotations

from dagster import Definitions, in_process_executor

from assets import all_assets, all_checks
from jobs import ALL_JOBS
from lakehouse.settings import load_settings
from sensors import all_sensors

SETTINGS = load_settings()

defs = Definitions(
    assets=all_assets(SETTINGS),
    asset_checks=all_checks(SETTINGS),
    jobs=ALL_JOBS,
    sensors=all_sensors(SETTINGS),
    resources={"settings": SETTINGS},
    # Materialized by hand, several layers share one process and one Spark session.
    executor=in_process_executor,
)
