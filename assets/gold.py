"""Gold as one multi-asset, partitioned by UTC day: materializing days by hand rebuilds them from Silver, in one run.

Guarantee: that of `lakehouse.rebuild.gold`: afterwards these days are what Silver, as of one version, gives, whatever
stood in Gold before; safe beside a live stream. Where today is among them, Gold is first brought to the newest data of
this moment, as the streams do it, so that a click on today also catches up.
A run without any day, which Dagster offers neither in its UI nor in `dagster asset materialize`, is that catch-up only.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `context` with its own classes.

import datetime as dt
import time
from collections.abc import Iterator

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)

from assets.config import CatchUpConfig
from assets.days import utc_today
from assets.failures import one_line_failures
from assets.lineage import table_key, tables_of
from assets.metadata import ledger_materialization, materializations, progress_metadata, rebuild_metadata
from assets.specs import table_spec
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES

Results = Iterator[MaterializeResult[None]]


def gold_asset(settings: Settings) -> AssetsDefinition:
    """The tables of Gold that this lakehouse has."""

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
    from lakehouse.rebuild.gold import rebuild_days  # Spark: seconds of import, so only where it runs
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
        # Dagster makes an event a day of it, each with this metadata and the day's own.
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
