"""Every topic, table and sink of this lakehouse as a Dagster asset, and every check of them as an asset check.

A thin layer: `lakehouse.tables` declares tables, `lakehouse.streams` computes them, `lakehouse.quality` checks them.
Asset keys are [layer, name], ["kafka", topic] and ["sinks", name].
"""

from __future__ import annotations

from assets.checks import all_checks
from assets.layers import all_assets

__all__ = ["all_assets", "all_checks"]
