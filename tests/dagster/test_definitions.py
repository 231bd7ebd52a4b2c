"""Dagster's view: names, lineage, metadata. The snapshots are the UI's contract; change them on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetKey, DefaultSensorStatus, Definitions, TableSchema
from dagster._core.definitions.repository_definition import RepositoryDefinition

from assets import all_assets, all_checks
from assets.lineage import UPSTREAM, table_key
from lakehouse.lake.table_io import active_tables
from lakehouse.settings import load_settings
from lakehouse.tables import BY_PATH, Table
from tests.conftest import SettingsFactory

ROOT = Path(__file__).parents[2]

#: Those that a lakehouse with the settings' own defaults has.
GOLD = ("gold/bars_1m", "gold/bars_5m", "gold/indicators_1m", "gold/moves", "gold/spreads_1m")

ASSETS = {
    "kafka/crypto.trades": set(),
    "kafka/crypto.trades.rejected": set(),
    "kafka/crypto.feed_events": set(),
    "bronze/messages": {"kafka/crypto.trades", "kafka/crypto.trades.rejected", "kafka/crypto.feed_events"},
    "silver/trades": {"bronze/messages"},
    "silver/quarantine": {"bronze/messages"},
    "silver/feed_events": {"bronze/messages"},
    "silver/continuity": {"silver/trades", "silver/feed_events"},
    "gold/bars_1m": {"silver/trades"},
    "gold/bars_5m": {"gold/bars_1m"},
    "gold/indicators_1m": {"gold/bars_1m"},
    "gold/moves": {"gold/bars_1m"},
    "gold/spreads_1m": {"gold/bars_1m"},
    "ops/batches": {
        "bronze/messages",
        "silver/trades",
        "silver/quarantine",
        "silver/feed_events",
        "silver/continuity",
        *GOLD,
    },
    "ops/checks": {
        "bronze/messages",
        "silver/trades",
        "silver/quarantine",
        "silver/continuity",
        *GOLD,
    },
    "ops/replays": {"silver/quarantine"},
    "sinks/postgres_bars": {"gold/bars_1m", "gold/bars_5m"},
    "sinks/redis_latest": {"gold/bars_1m", "gold/bars_5m", "kafka/crypto.trades"},
}

ASSET_CHECKS = {
    "bronze/messages:offsets_contiguous",
    "bronze/messages:fresh",
    "silver/trades:key_unique",
    "silver/trades:fresh",
    "silver/trades:prices_and_sizes_positive",
    "silver/trades:nothing_dropped",
    "silver/trades:clock_agrees",
    "silver/trades:conserved_by_lineage",
    "silver/quarantine:quarantine_settled",
    "silver/continuity:ledger_matches",
    "silver/continuity:no_old_holes",
    "gold/bars_1m:bars_consistent",
    "gold/bars_1m:fresh",
    "gold/bars_1m:trades_conserved",
    "gold/bars_1m:complete_proved",
    "gold/bars_5m:bars_consistent",
    "gold/bars_5m:trades_conserved",
    "gold/bars_5m:complete_proved",
    "gold/indicators_1m:follows_bars",
    "gold/moves:follows_bars",
    "gold/spreads_1m:follows_bars",
    "sinks/postgres_bars:follows_gold",
    "sinks/redis_latest:follows_gold",
}


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    from definitions import defs

    return defs


@pytest.fixture(scope="module")
def repository(definitions: Definitions) -> RepositoryDefinition:
    return definitions.get_repository_def()


def test_assets_and_lineage(repository: RepositoryDefinition) -> None:
    graph = repository.asset_graph
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == ASSETS


def test_every_table_has_a_place_in_the_lineage() -> None:
    assert set(UPSTREAM) == set(BY_PATH)


def test_jobs_sensors_and_checks(repository: RepositoryDefinition) -> None:
    assert {job.name for job in repository.get_all_jobs()} == {
        "__ASSET_JOB",
        "ingest",
        "stream",
        "catch_up",
        "repair",
        "rebuild_gold",
        "sink_postgres",
        "sink_redis",
    }
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    assert set(sensors) == {
        "keep_ingest_running",
        "keep_stream_running",
        "keep_sink_postgres_running",
        "keep_sink_redis_running",
        "mend_holes",
        "alert_moves",
    }
    assert all(sensor.default_status is DefaultSensorStatus.RUNNING for sensor in sensors.values())
    found = {f"{key.asset_key.to_user_string()}:{key.name}" for key in repository.asset_graph.asset_check_keys}
    assert found == ASSET_CHECKS


def test_catch_up_asks_for_no_day_and_rebuild_gold_does(repository: RepositoryDefinition) -> None:
    catch_up, rebuild = repository.get_job("catch_up"), repository.get_job("rebuild_gold")
    assert {node.name for node in catch_up.nodes} == {"catch_up_bronze", "catch_up_silver", "catch_up_gold"}
    assert catch_up.partitions_def is None
    assert {key.to_user_string() for key in rebuild.asset_layer.executable_asset_keys} == set(GOLD)
    assert {node.name for node in rebuild.nodes} == {"gold", "gold_checks"}
    assert rebuild.partitions_def is not None


def test_every_size_of_bars_is_there_where_it_is_made(settings_factory: SettingsFactory) -> None:
    settings = settings_factory(bar_sizes=("15m", "1h", "1d"))
    repository = Definitions(
        assets=all_assets(settings), asset_checks=all_checks(settings), resources={"settings": settings}
    ).get_repository_def()
    graph = repository.asset_graph
    bars = {
        key.path[1]: {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
        if key.path[1].startswith("bars_")
    }
    assert bars == {
        "bars_1m": {"silver/trades"},
        "bars_5m": {"gold/bars_1m"},
        "bars_15m": {"gold/bars_5m"},
        "bars_1h": {"gold/bars_5m"},
        "bars_1d": {"gold/bars_5m"},
    }
    checked = {key.asset_key.path[1] for key in graph.asset_check_keys}
    assert set(bars) <= checked


@pytest.mark.parametrize("table", active_tables(load_settings()), ids=lambda table: table.path)
def test_a_table_asset_describes_its_table(repository: RepositoryDefinition, table: Table) -> None:
    node = repository.asset_graph.get(table_key(table.path))
    assert node.description is not None
    assert node.description.startswith(table.grain)
    assert node.group_name == table.layer
    assert node.kinds == ({"delta"} if table.layer == "ops" else {"spark", "delta"})
    assert node.owners == ["team:data-platform"]
    assert node.code_version == "1"
    assert node.metadata["dagster/table_name"] == table.path.replace("/", ".")
    assert str(node.metadata["dagster/uri"]).endswith(f"/lake/{table.path}")
    schema = node.metadata["dagster/column_schema"]
    assert isinstance(schema, TableSchema)
    assert [(c.name, c.type, c.constraints.nullable) for c in schema.columns] == [
        (c.name, c.type, c.nullable) for c in table.columns
    ]
    shown = {column.name: column.description or "" for column in schema.columns}
    assert all(shown[column.name].startswith(column.description) for column in table.columns)
    assert node.is_partitioned == (table.layer == "gold")
    assert ("dagster/column_lineage" in node.metadata) == (table.layer == "gold")


def test_topics_are_external(repository: RepositoryDefinition) -> None:
    node = repository.asset_graph.get(AssetKey(["kafka", "crypto.trades"]))
    assert node.kinds == {"kafka"}
    assert not node.is_executable


def test_loading_is_light_and_quiet() -> None:
    """No warning, and none of the imports that cost seconds: they belong into the bodies."""
    code = (
        "import sys, definitions; definitions.defs.get_repository_def();"
        "print([name for name in ('pyspark', 'pandas', 'delta') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr.strip()) == ("[]", "")


def test_the_library_does_not_know_dagster() -> None:
    offenders = [
        path.relative_to(ROOT)
        for path in (ROOT / "lakehouse").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import dagster", "from dagster"))
    ]
    assert offenders == []
