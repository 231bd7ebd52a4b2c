"""Which asset is computed from which, declared as data: from the exchanges' topics to the bars and what they give."""

from __future__ import annotations

from dagster import AssetKey

from lakehouse.lake.table_io import active_tables
from lakehouse.quality.checks import CHECKS
from lakehouse.settings import Settings
from lakehouse.tables import TABLES, Layer, Table

#: Table path → paths of the tables it is computed from. Bronze reads the topics. The ledgers of ops depend on what they
#: record. All of Gold is written in one pass over Silver; a longer bar stands behind the shorter ones it adds up.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "bronze/messages": (),
    "silver/trades": ("bronze/messages",),
    "silver/quarantine": ("bronze/messages",),
    "silver/feed_events": ("bronze/messages",),
    # KnownIds by the trades, claims and losses by the feed events of gaps.
    "silver/continuity": ("silver/trades", "silver/feed_events"),
    "gold/bars_1m": ("silver/trades",),
    "gold/bars_5m": ("gold/bars_1m",),
    "gold/bars_15m": ("gold/bars_5m",),
    # Not from those of 15 minutes: a lakehouse need not make them.
    "gold/bars_1h": ("gold/bars_5m",),
    "gold/bars_1d": ("gold/bars_5m",),
    "gold/indicators_1m": ("gold/bars_1m",),
    "gold/moves": ("gold/bars_1m",),
    "gold/spreads_1m": ("gold/bars_1m",),
    "ops/batches": tuple(table.path for table in TABLES if table.layer != "ops"),
    "ops/checks": tuple(dict.fromkeys(check.table_path for check in CHECKS)),
    "ops/replays": ("silver/quarantine",),
}


def table_key(path: str) -> AssetKey:
    """`silver/trades` → the asset key ["silver", "trades"]."""
    return AssetKey(path.split("/"))


def topic_key(topic: str) -> AssetKey:
    """The asset key of a Kafka topic, by the topic's real name."""
    return AssetKey(["kafka", topic])


def upstream_keys(settings: Settings, table: Table) -> list[AssetKey]:
    """The asset keys a table depends on, of those that this lakehouse has.

    KeyError for a registered table that nobody gave a place in `UPSTREAM`.
    """
    active = {one.path for one in active_tables(settings)}
    tables = [table_key(path) for path in UPSTREAM[table.path] if path in active]
    return [topic_key(topic) for topic in settings.topics] if table.layer == "bronze" else tables


def tables_of(settings: Settings, layer: Layer) -> tuple[Table, ...]:
    """The tables of a layer that this lakehouse has, in the registry's order."""
    return tuple(table for table in active_tables(settings) if table.layer == layer)
