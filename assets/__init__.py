"""Every topic and table as a Dagster asset, and every check of `lakehouse.quality` as an asset check.

A thin layer: what a table is stands in `lakehouse.tables`, what computes it in `lakehouse.streams`, what judges it in
`lakehouse.quality`. Asset keys are [layer, name] and ["kafka", topic].
"""

from __future__ import annotations

from assets.checks import all_checks
from assets.layers import all_assets

__all__ = ["all_assets", "all_checks"]
