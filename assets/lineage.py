"""Lineage: the assets from which an asset is computed, and the columns from which a column of Gold is computed."""

from __future__ import annotations

from dagster import AssetKey, TableColumnDep, TableColumnLineage

from lakehouse.lake.table_io import active_tables
from lakehouse.quality.checks import CHECKS
from lakehouse.settings import Settings
from lakehouse.tables import TABLES, Layer, Table
from lakehouse.transforms.derived import DERIVED

#: Table path → paths of the tables it is computed from. Bronze reads the topics. The ledgers of ops depend on what they
#: record. `lakehouse.transforms.derived` declares Gold, which is written in one pass over Silver.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "bronze/messages": (),
    "silver/trades": ("bronze/messages",),
    "silver/quarantine": ("bronze/messages",),
    "silver/feed_events": ("bronze/messages",),
    # Present ids come from the trades; gaps and unavailable ids come from the feed events.
    "silver/continuity": ("silver/trades", "silver/feed_events"),
    **{path: (derived.source.path,) for path, derived in DERIVED.items()},
    "ops/batches": tuple(table.path for table in TABLES if table.layer != "ops"),
    "ops/checks": tuple(dict.fromkeys(check.table_path for check in CHECKS)),
    "ops/replays": ("silver/quarantine",),
}

#: Path of a Gold table → its columns → the columns they come from, each as (table path, column).
COLUMN_LINEAGE: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    path: {
        name: tuple((derived.source.path, column) for column in upstream.split())
        for name, upstream in derived.columns.items()
    }
    for path, derived in DERIVED.items()
}


def table_key(path: str) -> AssetKey:
    """Return the asset key of a table by its path: `silver/trades` → ["silver", "trades"]."""
    return AssetKey(path.split("/"))


def topic_key(topic: str) -> AssetKey:
    """Return the asset key of a Kafka topic by its name in the settings: ["kafka", topic]."""
    return AssetKey(["kafka", topic])


def upstream_keys(settings: Settings, table: Table) -> list[AssetKey]:
    """Return the asset keys of the tables from which a table is computed; for Bronze, those of the topics.

    Tables that this lakehouse does not make are left out. Raises KeyError if the table has no entry in `UPSTREAM`.
    """
    active = {one.path for one in active_tables(settings)}
    tables = [table_key(path) for path in UPSTREAM[table.path] if path in active]
    return [topic_key(topic) for topic in settings.topics] if table.layer == "bronze" else tables


def tables_of(settings: Settings, layer: Layer) -> tuple[Table, ...]:
    """Return the tables of a layer that this lakehouse makes, in the registry's order."""
    return tuple(table for table in active_tables(settings) if table.layer == layer)


def column_lineage(table: Table) -> TableColumnLineage | None:
    """Return a table's column lineage in Dagster's form; None if none is declared, as for all tables outside Gold."""
    columns = COLUMN_LINEAGE.get(table.path)
    if columns is None:
        return None
    return TableColumnLineage(
        {
            name: [TableColumnDep(asset_key=table_key(path), column_name=column) for path, column in upstream]
            for name, upstream in columns.items()
        }
    )


def origin(table: Table, column: str) -> str:
    """Return the columns from which a column is computed, as a sentence: `From silver.trades: price, size.`

    The text is empty if the lineage names no columns.
    """
    by_table: dict[str, list[str]] = {}
    for path, name in COLUMN_LINEAGE.get(table.path, {}).get(column, ()):
        by_table.setdefault(path.replace("/", "."), []).append(name)
    places = [f"{path}: {', '.join(names)}" for path, names in by_table.items()]
    return f"From {'; '.join(places)}." if places else ""
