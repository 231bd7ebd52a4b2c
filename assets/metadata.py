"""Metadata of materializations. At most eight entries, because Dagster keeps every materialization of a stream.

Column lineage is only in the asset definitions: in each event it would take several KB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import AssetMaterialization, MetadataValue

from assets.days import utc_today, written_days
from assets.lineage import table_key
from lakehouse.continuity.gaps import open_gaps
from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import open_table, row_count
from lakehouse.settings import Settings
from lakehouse.tables import BY_PATH, SILVER_CONTINUITY, SILVER_QUARANTINE, Table

if TYPE_CHECKING:
    from lakehouse.rebuild.gold import GoldRebuild
    from lakehouse.streams.progress import TableProgress


def materializations(settings: Settings, progress: TableProgress, since: float) -> list[AssetMaterialization]:
    """Make the Dagster events for a table that a stream or a bounded catch-up wrote: one, or one per day of Gold.

    `since`: epoch seconds of the last report; `assets.days.written_days` selects the days from it.
    """
    key, metadata = table_key(progress.table_path), progress_metadata(settings, progress)
    table = BY_PATH[progress.table_path]
    if table.layer != "gold":
        return [AssetMaterialization(key, metadata=metadata)]
    days = written_days(settings, table, since, utc_today())
    return [
        AssetMaterialization(key, partition=str(day), metadata=metadata | {"dagster/partition_row_count": rows})
        for day, rows in days.items()
    ]


def progress_metadata(settings: Settings, progress: TableProgress) -> dict[str, Any]:
    """Make the metadata of a materialization from a stream's or a catch-up's progress with a table.

    Unknown figures are left out. silver/quarantine also gets its number of open messages, in all and by rule;
    silver/continuity its number of open gaps and of missing trades.
    """
    metadata: dict[str, Any] = {
        "dagster/row_count": progress.rows,
        "delta_version": progress.version,
        "batches": progress.batches,
    }
    if progress.table_path != SILVER_CONTINUITY.path:  # its ranges grow and join
        metadata["rows_added"] = progress.rows_added
    if progress.lag is not None:
        metadata["lag"] = progress.lag
    if progress.kafka_offsets is not None:
        metadata["kafka_offsets"] = MetadataValue.json(progress.kafka_offsets)
    if progress.last_commit is not None:
        metadata["last_commit"] = MetadataValue.timestamp(progress.last_commit)
    return metadata | _open_metadata(settings, progress.table_path)


def rebuild_metadata(rebuilt: GoldRebuild, table: Table) -> dict[str, Any]:
    """Make the metadata of a materialization of a Gold table for a rebuild of some days; counts are over all days.

    `rows` counts the computed rows, also those that were right already and were not written.
    """
    changes = rebuilt.rows.get(table.path)
    return {
        "days": f"{rebuilt.first_day} to {rebuilt.last_day}",
        "rows": changes.rows if changes else 0,
        "inserted": changes.inserted if changes else 0,
        "updated": changes.updated if changes else 0,
        "deleted": changes.deleted if changes else 0,
        # None if neither Silver nor Gold has a row of these days.
        **({"silver_version": rebuilt.silver_version} if rebuilt.silver_version is not None else {}),
    }


def _open_metadata(settings: Settings, table_path: str) -> dict[str, Any]:
    """Metadata about work that is open in this table: gaps, or messages that no replay has settled."""
    if table_path == SILVER_QUARANTINE.path:
        rules = open_quarantine(settings)
        return {"open": sum(rules.values()), "open_by_rule": MetadataValue.json(rules)}
    if table_path == SILVER_CONTINUITY.path:
        gaps = open_gaps(settings)
        return {"open_holes": len(gaps), "missing_trades": sum(len(gap) for gap in gaps)}
    return {}


def ledger_materialization(settings: Settings, table: Table) -> AssetMaterialization:
    """Make the Dagster event that reports a table of ops with its present number of rows and version."""
    delta_table = open_table(settings, table)
    return AssetMaterialization(
        table_key(table.path),
        metadata={"dagster/row_count": row_count(delta_table), "delta_version": delta_table.version()},
    )
