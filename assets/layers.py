"""Bronze and Silver as one multi-asset each: materializing one by hand is a bounded catch-up to this moment's data.

Guarantee: it is the streams' own computation, exactly once. Where a live stream holds the layer it waits until that has
passed the point and reports what it did, so two clicks, or a click beside a stream, never write twice.
Gap: the layers above are not read again: materialize them too, or launch the job `catch_up`.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from collections.abc import Iterator

from dagster import AssetExecutionContext, AssetsDefinition, AssetSpec, MaterializeResult, ResourceParam, multi_asset

from assets.config import CatchUpConfig
from assets.failures import one_line_failures
from assets.gold import gold_asset
from assets.lineage import table_key, tables_of
from assets.metadata import ledger_materialization, progress_metadata
from assets.specs import table_spec, topic_specs
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, Layer


def all_assets(settings: Settings) -> list[AssetsDefinition | AssetSpec]:
    """Topics and ledgers as external assets, every other table as part of its layer's multi-asset."""
    layers = [_layer_asset(settings, "bronze"), _layer_asset(settings, "silver"), gold_asset(settings)]
    ledgers = [table_spec(settings, table) for table in tables_of(settings, "ops")]
    return [*topic_specs(settings), *layers, *ledgers]


def _layer_asset(settings: Settings, layer: Layer) -> AssetsDefinition:
    @multi_asset(name=layer, specs=[table_spec(settings, table) for table in tables_of(settings, layer)])
    def catch_up_layer(
        context: AssetExecutionContext,
        config: CatchUpConfig,
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[None]]:
        from lakehouse.streams.materialize import materialize  # Spark: seconds of import, so only where it runs

        with one_line_failures():
            progress = materialize(settings, layers=(layer,), run_id=context.run.run_id, timeout=config.timeout_seconds)
            for table in tables_of(settings, layer):
                yield MaterializeResult(
                    table_key(table.path), metadata=progress_metadata(settings, progress[table.path])
                )
            context.log_event(ledger_materialization(settings, OPS_BATCHES))

    return catch_up_layer
