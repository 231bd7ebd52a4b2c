"""Every topic and table as a Dagster asset, and every check of `lakehouse.quality` as an asset check.

A thin layer: what a table is stands in `lakehouse.tables`, what computes it in `lakehouse.streams`, what judges it in
`lakehouse.quality`. Asset keys are [layer, name] and ["kafka", topic].
"""

from __future__ import annotations

from assets.checks import ALL_CHECKS
from assets.layers import LAYER_ASSETS, all_assets

__all__ = ["ALL_CHECKS", "LAYER_ASSETS", "all_assets"]
