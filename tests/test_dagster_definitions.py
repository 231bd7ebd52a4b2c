"""What Dagster sees: names, lineage, metadata. The snapshots are the UI's contract; change them on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetKey, DefaultSensorStatus, Definitions, TableSchema
from dagster._core.definitions.repository_definition import RepositoryDefinition

from assets.lineage import UPSTREAM, table_key
from lakehouse.tables import BY_PATH, TABLES, Table

ROOT = Path(__file__).parent.parent

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
    "ops/batches": {
        "bronze/messages",
        "silver/trades",
        "silver/quarantine",
        "silver/feed_events",
        "silver/continuity",
        "gold/bars_1m",
        "gold/bars_5m",
    },
    "ops/checks": {
        "bronze/messages",
        "silver/trades",
        "silver/quarantine",
        "silver/continuity",
        "gold/bars_1m",
        "gold/bars_5m",
    },
    "ops/replays": {"silver/quarantine"},
}

ASSET_CHECKS = {
    "bronze/messages:offsets_contiguous",
    "silver/trades:key_unique",
    "silver/trades:prices_and_sizes_positive",
    "silver/trades:nothing_dropped",
    "silver/trades:conserved_by_lineage",
    "silver/quarantine:quarantine_settled",
    "silver/continuity:ledger_matches",
    "silver/continuity:no_old_holes",
    "gold/bars_1m:bars_consistent",
    "gold/bars_1m:trades_conserved",
    "gold/bars_1m:complete_proved",
    "gold/bars_5m:bars_consistent",
    "gold/bars_5m:trades_conserved",
    "gold/bars_5m:complete_proved",
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
    }
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    assert set(sensors) == {"keep_ingest_running", "keep_stream_running", "mend_holes"}
    assert all(sensor.default_status is DefaultSensorStatus.RUNNING for sensor in sensors.values())
    found = {f"{key.asset_key.to_user_string()}:{key.name}" for key in repository.asset_graph.asset_check_keys}
    assert found == ASSET_CHECKS


def test_catch_up_covers_every_layer_and_check(repository: RepositoryDefinition) -> None:
    job = repository.get_job("catch_up")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {
        table.path for table in TABLES if table.layer != "ops"
    }
    assert {node.name for node in job.nodes} == {
        "bronze",
        "silver",
        "gold",
        "bronze_checks",
        "silver_checks",
        "gold_checks",
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path)
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
    assert [(c.name, c.type, c.description, c.constraints.nullable) for c in schema.columns] == [
        (c.name, c.type, c.description, c.nullable) for c in table.columns
    ]


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
