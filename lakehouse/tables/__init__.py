"""The table registry: every schema, key, partitioning and grain, declared once as frozen values without behaviour.

`type` is a Spark SQL type; decimals and nullability are part of the contract. `lakehouse.lake.table_io` selects the
tables of a lakehouse by its settings, creates them from this registry and opens them.
"""

from __future__ import annotations

from lakehouse.tables.gold import (
    BAR_MINUTES,
    BARS,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    GOLD_TABLES,
    LOOKBACK_MINUTES,
    SPANS,
    SPREAD_VENUES,
)
from lakehouse.tables.model import DECIMAL, Column, Layer, Table
from lakehouse.tables.ops import OPS_BATCHES, OPS_CHECKS, OPS_REPLAYS
from lakehouse.tables.raw import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    FeedEventKind,
)

__all__ = [
    "BARS",
    "BAR_MINUTES",
    "BRONZE_MESSAGES",
    "BY_PATH",
    "DECIMAL",
    "GOLD_BARS_1M",
    "GOLD_BARS_5M",
    "GOLD_INDICATORS_1M",
    "GOLD_MOVES",
    "GOLD_SPREADS_1M",
    "GOLD_TABLES",
    "LAYERS",
    "LOOKBACK_MINUTES",
    "OPS_BATCHES",
    "OPS_CHECKS",
    "OPS_REPLAYS",
    "SILVER_CONTINUITY",
    "SILVER_FEED_EVENTS",
    "SILVER_QUARANTINE",
    "SILVER_TRADES",
    "SPANS",
    "SPREAD_VENUES",
    "TABLES",
    "Column",
    "FeedEventKind",
    "Layer",
    "Table",
]

#: Layers that a stream query writes, in the order in which a trade reaches them.
LAYERS = ("bronze", "silver", "gold")

#: Every table that there can be, in the order in which a trade reaches them; the operations tables come last.
TABLES: tuple[Table, ...] = (
    BRONZE_MESSAGES,
    SILVER_TRADES,
    SILVER_QUARANTINE,
    SILVER_FEED_EVENTS,
    SILVER_CONTINUITY,
    *GOLD_TABLES,
    OPS_BATCHES,
    OPS_CHECKS,
    OPS_REPLAYS,
)
#: Path of a table below the lake's root, such as silver/trades → the table.
BY_PATH: dict[str, Table] = {table.path: table for table in TABLES}
