"""The tables of a lake by name in Spark SQL: `gold.bars_1m` and `bars_1m`, as in `lakehouse query`. For reading.

    from lakehouse.client import Lake
    from lakehouse.spark_sql import open_spark
    spark = open_spark(Lake.open(".lakehouse/demo"))
    spark.sql("SELECT venue, symbol, close FROM gold.bars_1m").show()

Each name is a view, so that a query reads the newest version of its table, and Spark refuses to write through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltalake import DeltaTable

from lakehouse.client import Lake
from lakehouse.errors import SettingError
from lakehouse.lake import table_io
from lakehouse.runtime.spark_session import SESSION_CONF, build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Spark's settings that a session needs to read Delta tables; they cannot be set once it runs.
_DELTA = ("spark.sql.extensions", "spark.sql.catalog.spark_catalog")


def open_spark(lake: Lake) -> SparkSession:
    """Return the SparkSession of this process, made by the first call, with the tables of a lake by name.

    Raises what `build_session` raises.
    """
    spark = build_session(lake.settings, bulk=True)
    add_tables(spark, lake)
    return spark


def add_tables(spark: SparkSession, lake: Lake) -> list[str]:
    """Give the tables of a lake their names in a session, and return the long ones, such as gold.bars_1m.

    A table that the lake does not have yet has no name; call it again once it is there. The databases `bronze`,
    `silver`, `gold` and `ops` are made in the session's catalog if they are missing. The last lake has the names, if
    there were several. Raises SettingError if the session cannot read Delta tables.
    """
    for name in _DELTA:
        if SESSION_CONF[name] not in (spark.conf.get(name, None) or ""):
            raise SettingError(
                f"a Spark session whose {name} is {spark.conf.get(name, None)}",
                SESSION_CONF[name],
                "set it before the session starts, or use open_spark(lake)",
            )
    tables = table_io.active_tables(lake.settings)
    for layer in {table.layer for table in tables}:
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {layer}")
    made = []
    for table in tables:
        name, uri = f"{table.layer}.{table.name}", table_io.table_uri(lake.settings, table)
        if not DeltaTable.is_deltatable(uri):
            spark.sql(f"DROP VIEW IF EXISTS {name}")
            spark.catalog.dropTempView(table.name)
            continue
        place = uri.replace("`", "``")
        spark.sql(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM delta.`{place}`")
        # Over the other view: a DELETE from a temporary view of the table itself would delete its rows.
        spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {table.name} AS SELECT * FROM {name}")
        made.append(name)
    return made
