"""One multi-asset per layer: materializing it by hand is a bounded catch-up to the newest data of that moment.

Guarantee: it is the streams' own computation, exactly once. Where a live stream holds the layer it waits until that has
passed the point and reports what it did, so two clicks, or a click beside a stream, never write twice.
Gap: the layers above are not read again: materialize them too, or launch the job `catch_up`.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

from collections.abc import Iterator

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    Config,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)
from pydantic import Field

from assets.failures import one_line_failures
from assets.lineage import table_key, tables_of
from assets.metadata import ledger_materialization, progress_metadata
from assets.specs import table_spec, topic_specs
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, Layer

LAYER_ASSETS: tuple[Layer, ...] = ("bronze", "silver", "gold")


class CatchUpConfig(Config):
    """Config of one bounded catch-up."""

    timeout_seconds: float = Field(600.0, gt=0, description="How long a layer may take to reach the newest data.")


def all_assets(settings: Settings) -> list[AssetsDefinition | AssetSpec]:
    """Topics and ledgers as external assets, every other table as part of its layer's multi-asset."""
    layers = [_layer_asset(settings, layer) for layer in LAYER_ASSETS]
    ledgers = [table_spec(settings, table) for table in tables_of("ops")]
    return [*topic_specs(settings), *layers, *ledgers]


def _layer_asset(settings: Settings, layer: Layer) -> AssetsDefinition:
    @multi_asset(name=layer, specs=[table_spec(settings, table) for table in tables_of(layer)])
    def catch_up_layer(
        context: AssetExecutionContext,
        config: CatchUpConfig,
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[None]]:
        from lakehouse.streams.runner import materialize  # Spark: seconds of import, so only where it runs

        with one_line_failures():
            progress = materialize(settings, layers=(layer,), run_id=context.run.run_id, timeout=config.timeout_seconds)
            for table in tables_of(layer):
                yield MaterializeResult(
                    table_key(table.path), metadata=progress_metadata(settings, progress[table.path])
                )
            context.log_event(ledger_materialization(settings, OPS_BATCHES))

    return catch_up_layer
