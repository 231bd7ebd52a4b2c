"""The sensors, on by default: supervisors of the long-running work, one that sends for repairs, one that alerts."""

from __future__ import annotations

from dagster import SensorDefinition

from lakehouse.settings import Settings
from sensors.alerts import alert_moves
from sensors.repair import mend_holes
from sensors.supervisor import supervisors

__all__ = ["all_sensors"]


def all_sensors(settings: Settings) -> list[SensorDefinition]:
    """Every sensor, in the order in which a trade meets their work."""
    return [*supervisors(settings), mend_holes(settings), alert_moves(settings)]
