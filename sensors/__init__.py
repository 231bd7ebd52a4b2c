"""The supervisors of the long-running work, on by default."""

from __future__ import annotations

from sensors.supervisor import all_sensors

__all__ = ["all_sensors"]
