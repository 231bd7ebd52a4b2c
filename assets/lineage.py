"""Which asset is computed from which, declared as data: from the exchanges' topics to the bars."""

from __future__ import annotations

from dagster import AssetKey

from lakehouse.quality.checks import CHECKS
from lakehouse.settings import Settings
from lakehouse.tables import TABLES, Layer, Table

#: Table path → paths of the tables it is computed from. Bronze reads the topics. The ledgers of ops depend on what they
#: record. Both bars are written in one pass over Silver; 5-minute bars stand behind the 1-minute bars they add up to.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "bronze/messages": (),
    "silver/trades": ("bronze/messages",),
    "silver/quarantine": ("bronze/messages",),
    "silver/feed_events": ("bronze/messages",),
    # Presence by the trades, claims and losses by the feed events of gaps.
    "silver/continuity": ("silver/trades", "silver/feed_events"),
    "gold/bars_1m": ("silver/trades",),
    "gold/bars_5m": ("gold/bars_1m",),
    "ops/batches": (
        "bronze/messages",
        "silver/trades",
        "silver/quarantine",
        "silver/feed_events",
        "silver/continuity",
        "gold/bars_1m",
        "gold/bars_5m",
    ),
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
    """The asset keys a table depends on. KeyError for a registered table that nobody gave a place in `UPSTREAM`."""
    tables = [table_key(path) for path in UPSTREAM[table.path]]
    return [topic_key(topic) for topic in settings.topics] if table.layer == "bronze" else tables


def tables_of(layer: Layer) -> tuple[Table, ...]:
    """The registered tables of a layer, in the registry's order."""
    return tuple(table for table in TABLES if table.layer == layer)
