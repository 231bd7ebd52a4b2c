"""What a materialization says about its table. Eight entries at most: each materialization of a stream is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import AssetMaterialization, MetadataValue

from assets.lineage import table_key
from lakehouse.lake import open_table, row_count
from lakehouse.settings import Settings
from lakehouse.tables import Table

if TYPE_CHECKING:
    from lakehouse.streams.progress import TableProgress


def progress_metadata(progress: TableProgress) -> dict[str, Any]:
    """Metadata of a table that a stream or a bounded catch-up wrote. Unknown figures are left out."""
    metadata: dict[str, Any] = {
        "dagster/row_count": progress.rows,
        "rows_added": progress.rows_added,
        "delta_version": progress.version,
        "batches": progress.batches,
    }
    if progress.lag is not None:
        metadata["lag"] = progress.lag
    if progress.kafka_offsets is not None:
        metadata["kafka_offsets"] = MetadataValue.json(progress.kafka_offsets)
    if progress.last_commit is not None:
        metadata["last_commit"] = MetadataValue.timestamp(progress.last_commit)
    return metadata


def ledger_materialization(settings: Settings, table: Table) -> AssetMaterialization:
    """The present state of a table that is written beside the streams' own (ops/*), read through deltalake."""
    delta_table = open_table(settings, table)
    return AssetMaterialization(
        table_key(table.path),
        metadata={"dagster/row_count": row_count(delta_table), "delta_version": delta_table.version()},
    )
