"""The stores that follow Gold (PostgreSQL, Redis), as external assets downstream of it, each with one check.

The jobs `sink_postgres` and `sink_redis` keep the stores up to date and report them. If the setting with a store's URL
is not set, the store still has its asset, whose description says so, and its check passes.
"""

# Without `from __future__ import annotations`: Dagster compares the annotation of `settings` with its own classes.

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    AssetSpec,
    ResourceParam,
    asset_check,
)

from assets.lineage import table_key, topic_key
from assets.specs import OWNERS
from assets.verdicts import Materialized
from lakehouse.lake.table_io import bar_tables
from lakehouse.quality.model import CheckResult
from lakehouse.settings import Settings
from lakehouse.sinks.state import BEHIND_SECONDS, judge
from lakehouse.sinks.stores import POSTGRES, REDIS, STORES, Store

#: Store → the name of its asset, and a sentence on what one row, or key, of it is.
_GRAINS = {
    POSTGRES: ("postgres_bars", "One row per bar of each size, in the table `bars` of PostgreSQL or TimescaleDB."),
    REDIS: (
        "redis_latest",
        "One key per venue and symbol with its latest price, and one per size, venue and symbol with its newest bars.",
    ),
}

#: Name of the check of each store.
CHECK = "follows_gold"


def sink_key(store: Store) -> AssetKey:
    """Return the asset key of a store, such as ["sinks", "postgres_bars"]."""
    return AssetKey(["sinks", _GRAINS[store][0]])


def sink_specs(settings: Settings) -> list[AssetSpec]:
    """Describe the stores as external assets; each store has its own job, which writes and reports it."""
    return [_spec(settings, store) for store in STORES]


def sink_checks() -> list[AssetChecksDefinition]:
    """Define one check per store: it holds Gold's newest version, or has lacked it for BEHIND_SECONDS at most."""
    return [_check(store) for store in STORES]


def sink_evaluation(store: Store, result: CheckResult, about: Materialized | None) -> AssetCheckEvaluation:
    """Make the Dagster event of a verdict about a store.

    `about`: the materialization that the verdict judges, None if the asset has none.
    """
    return AssetCheckEvaluation(
        asset_key=sink_key(store),
        check_name=CHECK,
        passed=result.passed,
        severity=AssetCheckSeverity.WARN,
        description=result.detail,
        metadata=dict(result.figures),
        blocking=False,
        target_materialization_data=about,
    )


def sink_check_key(store: Store) -> AssetCheckKey:
    """Return Dagster's key of the check of a store."""
    return AssetCheckKey(sink_key(store), CHECK)


def _spec(settings: Settings, store: Store) -> AssetSpec:
    grain = _GRAINS[store][1]
    if store.is_wanted(settings):
        kept = f"The job `{store.job}` keeps it like Gold."
    else:
        kept = f"Nothing keeps it: {store.variable} is not set."
    return AssetSpec(
        sink_key(store),
        deps=[
            *(table_key(table.path) for table, _ in bar_tables(settings)),
            *([topic_key(settings.topic_trades)] if store is REDIS else []),
        ],
        description=f"{grain} {kept}",
        group_name="sinks",
        kinds={store.name},
        owners=OWNERS,
        metadata={"setting": store.variable, "is_set": store.is_wanted(settings)},
    )


def _check(store: Store) -> AssetChecksDefinition:
    @asset_check(
        asset=sink_key(store),
        name=CHECK,
        description=f"{store.title} holds Gold's newest version, or has lacked it for {BEHIND_SECONDS:.0f} s at most.",
    )
    def follows_gold(settings: ResourceParam[Settings]) -> AssetCheckResult:
        result = judge(settings, store)
        return AssetCheckResult(
            passed=result.passed,
            severity=AssetCheckSeverity.WARN,
            description=result.detail,
            metadata=dict(result.figures),
        )

    return follows_gold
