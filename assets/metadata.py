"""What a materialization says about its table. Eight entries at most: each materialization of a stream is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import AssetMaterialization, MetadataValue

from assets.lineage import table_key
from lakehouse.holes import open_holes
from lakehouse.lake import open_table, row_count
from lakehouse.quarantine import open_quarantine
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY, SILVER_QUARANTINE, Table

if TYPE_CHECKING:
    from lakehouse.streams.progress import TableProgress


def progress_metadata(settings: Settings, progress: TableProgress) -> dict[str, Any]:
    """Metadata of a table that a stream or a bounded catch-up wrote. Unknown figures are left out."""
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


def _open_metadata(settings: Settings, table_path: str) -> dict[str, Any]:
    """What waits for somebody in this table: open holes, or messages that no replay has settled."""
    if table_path == SILVER_QUARANTINE.path:
        rules = open_quarantine(settings)
        return {"open": sum(rules.values()), "open_by_rule": MetadataValue.json(rules)}
    if table_path == SILVER_CONTINUITY.path:
        holes = open_holes(settings)
        return {"open_holes": len(holes), "missing_trades": sum(len(hole) for hole in holes)}
    return {}


def ledger_materialization(settings: Settings, table: Table) -> AssetMaterialization:
    """The present state of a table that is written beside the streams' own (ops/*), read through deltalake."""
    delta_table = open_table(settings, table)
    return AssetMaterialization(
        table_key(table.path),
        metadata={"dagster/row_count": row_count(delta_table), "delta_version": delta_table.version()},
    )
