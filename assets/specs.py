"""Asset specs from the registries: description, columns, constraints, location, owners, lineage."""

from __future__ import annotations

from datetime import timedelta

from dagster import (
    AssetSpec,
    FreshnessPolicy,
    TableColumn,
    TableColumnConstraints,
    TableConstraints,
    TableSchema,
)

from assets.days import gold_days
from assets.lineage import column_lineage, origin, table_key, topic_key, upstream_keys
from lakehouse.lake.table_io import table_uri
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES, Table
from lakehouse.transforms.derived import GOLD

#: Owners of every asset, in Dagster's form.
OWNERS = ["team:data-platform"]

#: Version of the rows' meaning, not of the code: raise it if the same input gives other rows, so that Dagster shows
#: which tables were written by the older logic.
CODE_VERSION = "1"

#: Tables that get rows at least every five minutes while the market trades. The others may rightly stand still for
#: longer: moves are rare, and longer bars begin seldom.
ALWAYS_GROWING = frozenset({SILVER_TRADES.path, *(one.table.path for one in GOLD if one.always_growing)})
#: A stream reports every table once in five minutes (settings.report_seconds): 3 missed reports warn, 6 fail. Age by
#: the minute is the check `fresh`.
FRESHNESS = FreshnessPolicy.time_window(fail_window=timedelta(minutes=30), warn_window=timedelta(minutes=15))

#: Setting with the name of a Kafka topic, and a sentence on what one message of the topic is.
TOPIC_GRAINS = (
    ("topic_trades", "One message per trade, keyed by canonical symbol."),
    ("topic_rejected", "One message per frame, or part of it, that could not be read; keyed by venue."),
    ("topic_feed_events", "One message per feed event (connected, gap, refused subscription …); keyed by venue."),
)


def topic_specs(settings: Settings) -> list[AssetSpec]:
    """Describe the three Kafka topics as external assets, which the job `ingest` writes."""
    return [
        AssetSpec(
            topic_key(getattr(settings, setting)),
            description=f"{grain} Written by the `ingest` job.",
            group_name="kafka",
            kinds={"kafka"},
            owners=OWNERS,
            metadata={"topic": getattr(settings, setting)},
        )
        for setting, grain in TOPIC_GRAINS
    ]


def table_spec(settings: Settings, table: Table) -> AssetSpec:
    """Describe a registered table as an asset. Gold's assets are partitioned by day, so that days can be rebuilt."""
    lineage = column_lineage(table)
    return AssetSpec(
        table_key(table.path),
        deps=upstream_keys(settings, table),
        description=_description(table),
        group_name=table.layer,
        kinds={"delta"} if table.layer == "ops" else {"spark", "delta"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        freshness_policy=FRESHNESS if table.path in ALWAYS_GROWING else None,
        partitions_def=gold_days(settings) if table.layer == "gold" else None,
        metadata={
            "dagster/column_schema": _schema(table),
            "dagster/table_name": table.path.replace("/", "."),
            "dagster/uri": table_uri(settings, table),
            **({"dagster/column_lineage": lineage} if lineage else {}),
        },
    )


def _description(table: Table) -> str:
    partitions = ", ".join(f"`{column}`" for column in table.partition_by)
    partitioned = f"partitioned by {partitions}" if partitions else "not partitioned"
    return f"{table.grain}\n\nUnique by {', '.join(f'`{c}`' for c in table.key)}; {partitioned}."


def _schema(table: Table) -> TableSchema:
    return TableSchema(
        columns=[
            TableColumn(
                column.name,
                type=column.type,
                # The open-source UI hides `dagster/column_lineage`; its page of columns shows this.
                description=f"{column.description} {origin(table, column.name)}".strip(),
                constraints=TableColumnConstraints(nullable=column.nullable, unique=table.key == (column.name,)),
            )
            for column in table.columns
        ],
        constraints=TableConstraints(other=[f"unique ({', '.join(table.key)})"]),
    )
