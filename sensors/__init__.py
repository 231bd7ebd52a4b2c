"""The sensors, all on by default: supervisors of the managed runs, a sensor for repairs, a sensor for alerts."""

from __future__ import annotations

from dagster import SensorDefinition

from lakehouse.settings import Settings
from sensors.alerts import alert_moves
from sensors.repair import repair_sensor
from sensors.supervisor import supervisors

__all__ = ["all_sensors"]


def all_sensors(settings: Settings) -> list[SensorDefinition]:
    """Make every sensor: the supervisors, `mend_holes` and `alert_moves`."""
    return [*supervisors(settings), repair_sensor(settings), alert_moves(settings)]
