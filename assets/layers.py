"""Bronze, Silver and Gold as one multi-asset each, topics and ledgers as external assets.

Bronze and Silver. Materializing a layer by hand is a bounded catch-up to this moment's data.
Guarantee: the streams' own computation runs, exactly once. If a live stream holds the layer, the run waits until the
stream has passed this moment and reports the stream's progress, so two clicks, or a click beside a stream, never write
twice.
Limit: the layers above are not updated: materialize them too, or launch the job `catch_up`.

Gold. Its assets are partitioned by UTC day. Materializing days by hand rebuilds them from Silver, in one run.
Guarantee: that of `lakehouse.rebuild.gold`: afterwards these days hold what Silver gives at one version, whatever was
there before; safe beside a live stream. If today is among the days, Gold first catches up to the newest data.
A run without any day, which Dagster offers neither in its UI nor in `dagster asset materialize`, only catches up.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import datetime as dt
import time
from collections.abc import Iterator

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Config,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)
from pydantic import Field

from assets.days import utc_today
from assets.failures import one_line_failures
from assets.lineage import table_key, tables_of
from assets.metadata import ledger_materialization, materializations, progress_metadata, rebuild_metadata
from assets.sinks import sink_specs
from assets.specs import table_spec, topic_specs
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, Layer

Results = Iterator[MaterializeResult[None]]


class CatchUpConfig(Config):
    """Config of one bounded catch-up."""

    timeout_seconds: float = Field(600.0, gt=0, description="How long a layer may take to reach the newest data.")


def all_assets(settings: Settings) -> list[AssetsDefinition | AssetSpec]:
    """Define all assets: topics, tables of ops and sinks as external assets, each other layer as one multi-asset."""
    layers = [_layer_asset(settings, "bronze"), _layer_asset(settings, "silver"), _gold_asset(settings)]
    ledgers = [table_spec(settings, table) for table in tables_of(settings, "ops")]
    return [*topic_specs(settings), *layers, *ledgers, *sink_specs(settings)]


def _layer_asset(settings: Settings, layer: Layer) -> AssetsDefinition:
    @multi_asset(name=layer, specs=[table_spec(settings, table) for table in tables_of(settings, layer)])
    def catch_up_layer(
        context: AssetExecutionContext,
        config: CatchUpConfig,
        settings: ResourceParam[Settings],
    ) -> Results:
        from lakehouse.streams.materialize import materialize  # imports Spark, which takes seconds

        with one_line_failures():
            progress = materialize(settings, layers=(layer,), run_id=context.run.run_id, timeout=config.timeout_seconds)
            for table in tables_of(settings, layer):
                yield MaterializeResult(
                    table_key(table.path), metadata=progress_metadata(settings, progress[table.path])
                )
            context.log_event(ledger_materialization(settings, OPS_BATCHES))

    return catch_up_layer


def _gold_asset(settings: Settings) -> AssetsDefinition:
    """Define the multi-asset of the Gold tables that this lakehouse makes."""

    @multi_asset(
        name="gold",
        specs=[table_spec(settings, table) for table in tables_of(settings, "gold")],
        # One run for a range of days: Spark starts once, and Silver is read as of one version.
        backfill_policy=BackfillPolicy.single_run(),
    )
    def rebuild_or_catch_up(
        context: AssetExecutionContext, config: CatchUpConfig, settings: ResourceParam[Settings]
    ) -> Results:
        with one_line_failures():
            if context.has_partition_key or context.has_partition_key_range:
                yield from _rebuild(context, config, settings)
            else:
                yield from _catch_up(context, config, settings)

    return rebuild_or_catch_up


def _rebuild(context: AssetExecutionContext, config: CatchUpConfig, settings: Settings) -> Results:
    from lakehouse.rebuild.gold import rebuild_days  # imports Spark, which takes seconds
    from lakehouse.streams.materialize import materialize

    days, run_id = context.partition_key_range, context.run.run_id
    first, last = dt.date.fromisoformat(days.start), dt.date.fromisoformat(days.end)
    if last >= utc_today():
        materialize(settings, layers=("gold",), run_id=run_id, timeout=config.timeout_seconds)
    rebuilt = rebuild_days(settings, first, last, run_id, say=context.log.info)
    for table in tables_of(settings, "gold"):
        key = table_key(table.path)
        there = table_io.days(settings, table)
        for day in context.partition_keys:
            files = there.get(dt.date.fromisoformat(day))
            count = files.rows if files else 0
            context.add_asset_metadata({"dagster/partition_row_count": count}, key, partition_key=day)
        # Dagster records one event per day, each with this metadata and the day's own.
        yield MaterializeResult(key, metadata=rebuild_metadata(rebuilt, table))
    context.log_event(ledger_materialization(settings, OPS_BATCHES))


def _catch_up(context: AssetExecutionContext, config: CatchUpConfig, settings: Settings) -> Results:
    from lakehouse.streams.materialize import materialize

    since = time.time()
    progress = materialize(settings, layers=("gold",), run_id=context.run.run_id, timeout=config.timeout_seconds)
    for table in tables_of(settings, "gold"):
        yield MaterializeResult(table_key(table.path), metadata=progress_metadata(settings, progress[table.path]))
        for event in materializations(settings, progress[table.path], since):
            context.log_event(event)
    context.log_event(ledger_materialization(settings, OPS_BATCHES))
