"""Spark SQL reads the same rows under the same names as `lakehouse query`, and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse.client import Lake
from lakehouse.client.query import names, query
from lakehouse.lake.table_io import ensure_tables, table_uri
from lakehouse.runtime.jars import spark_jars
from lakehouse.runtime.java import find_java
from lakehouse.settings import load_settings
from lakehouse.spark_sql import add_tables, open_spark
from lakehouse.tables import GOLD_BARS_1M, TABLES
from tests.support.market_lake import MarketLake, put

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

#: A session as a user builds it by Delta's own documentation, or without Delta, in a process of its own.
OWN_SESSION = """
import sys
from pyspark.sql import SparkSession
from lakehouse.client import Lake
from lakehouse.spark_sql import add_tables

builder = SparkSession.builder.master("local[1]").config("spark.jars", sys.argv[2]).config("spark.ui.enabled", "false")
if sys.argv[3] == "delta":
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config(
        "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    )
spark = builder.config("spark.sql.warehouse.dir", sys.argv[4]).getOrCreate()
print("made", len(add_tables(spark, Lake.open(sys.argv[1]))))
for name in ("gold.bars_1m", "bars_1m"):
    print(name, spark.sql(f"SELECT count(*) FROM {name}").first()[0])
"""


@pytest.fixture(scope="module")
def named(spark: SparkSession, lake: Lake) -> SparkSession:
    session = open_spark(lake)
    assert session.sparkContext is spark.sparkContext  # the one session of the process
    return session


def queried(lake: Lake, sql: str) -> list[dict[str, Any]]:
    schema, batches = query(lake.settings, sql)
    return pa.Table.from_batches(list(batches), schema).to_pylist()


def in_spark(spark: SparkSession, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spark.sql(sql).toArrow().to_pylist()
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path)
def test_each_table_has_the_rows_of_a_query(named: SparkSession, lake: Lake, table: Any) -> None:
    if f"{table.layer}.{table.name}" not in names(lake.settings):
        pytest.skip("a size of bars that this lakehouse does not make")
    order = ", ".join(table.key)
    expected = queried(lake, f"SELECT * FROM {table.layer}.{table.name} ORDER BY {order}")
    # The short name is a view of the long one.
    assert in_spark(named, f"SELECT * FROM {table.name} ORDER BY {order}") == expected


def test_the_rows_are_those_that_were_written(named: SparkSession, market: MarketLake) -> None:
    found = in_spark(named, "SELECT * FROM bars_1m ORDER BY venue, symbol, bar_start")
    assert found == sorted(market.bars(1), key=lambda bar: (bar["venue"], bar["symbol"], bar["bar_start"]))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT venue, sum(volume) AS v, sum(trades) AS n FROM gold.bars_1m GROUP BY venue ORDER BY venue",
        "SELECT symbol, bar_start, close FROM bars_5m WHERE complete ORDER BY symbol, bar_start LIMIT 20",
        "SELECT count(*) AS n FROM gold.bars_1m b JOIN silver.trades t ON t.trade_id = b.first_trade_id",
        "SELECT max(ts_event) AS newest FROM trades WHERE event_date = DATE '2026-11-01'",
    ],
)
def test_a_query_answers_the_same(named: SparkSession, lake: Lake, sql: str) -> None:
    expected = queried(lake, sql)
    assert in_spark(named, sql) == expected
    assert expected


@pytest.mark.parametrize("name", ["gold.bars_1m", "bars_1m"])
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO {} SELECT * FROM bars_5m",
        "INSERT OVERWRITE {} SELECT * FROM bars_5m",
        "DELETE FROM {}",
        "UPDATE {} SET trades = 1",
        "MERGE INTO {} a USING bars_5m b ON a.bar_start = b.bar_start WHEN MATCHED THEN DELETE",
        "TRUNCATE TABLE {}",
    ],
)
def test_what_changes_a_table_is_refused(named: SparkSession, lake: Lake, sql: str, name: str) -> None:
    from pyspark.errors import AnalysisException

    uri = table_uri(lake.settings, GOLD_BARS_1M)
    before = DeltaTable(uri).version()
    with pytest.raises(AnalysisException):
        named.sql(sql.format(name))
    assert DeltaTable(uri).version() == before


@pytest.mark.slow
def test_another_lake_takes_the_names(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    """A session of a user's own has the names, reads the newest rows, and knows a table once it is there."""
    from pyspark.errors import AnalysisException

    small = MarketLake.written(tmp_path / "home", hours=1)
    settings = load_settings(home=tmp_path / "home", bar_sizes="1m,5m,15m")
    own = spark.newSession()
    assert "gold.bars_15m" not in add_tables(own, Lake(settings))
    assert in_spark(own, "SELECT count(*) AS n FROM bars_1m") == [{"n": len(small.bars(1))}]
    put(settings, GOLD_BARS_1M, small.bars(1)[:7])
    for name in ("gold.bars_1m", "bars_1m"):
        assert in_spark(own, f"SELECT count(*) AS n FROM {name}") == [{"n": 7}]
    with pytest.raises(AnalysisException, match="gold"):
        own.sql("SELECT * FROM gold.bars_15m")
    ensure_tables(settings)
    assert set(add_tables(own, Lake(settings))) == set(names(settings))
    assert in_spark(own, "SELECT * FROM gold.bars_15m") == []
    own.sql("DROP DATABASE gold CASCADE")
    assert DeltaTable(table_uri(settings, GOLD_BARS_1M)).count() == 7
    open_spark(lake)  # the other tests' lake


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "plain"])
def test_a_session_of_ones_own(market: MarketLake, tmp_path: Path, kind: str) -> None:
    jars = ",".join(str(jar) for jar in spark_jars())
    script = tmp_path / "own.py"
    script.write_text(OWN_SESSION, encoding="utf-8")
    words = [sys.executable, str(script), str(market.settings.home), jars, kind, str(tmp_path / "warehouse")]
    environment = os.environ | {"JAVA_HOME": str(find_java(for_spark=True).parent.parent)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    if kind == "plain":
        assert "SettingError: a Spark session whose spark.sql.extensions is None" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    bars = len(market.bars(1))
    assert lines == [f"made {len(names(market.settings))}", f"gold.bars_1m {bars}", f"bars_1m {bars}"]
