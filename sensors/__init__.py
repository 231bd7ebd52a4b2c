"""The sensors, on by default: the supervisors of the long-running work, and the one that sends for repairs."""

from __future__ import annotations

from dagster import SensorDefinition

from lakehouse.settings import Settings
from sensors.mend import mend_holes
from sensors.supervisor import supervisors

__all__ = ["all_sensors"]


def all_sensors(settings: Settings) -> list[SensorDefinition]:
    """Every sensor, in the order in which a trade meets their work."""
    return [*supervisors(settings), mend_holes(settings)]
