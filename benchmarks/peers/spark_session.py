"""The session of the Spark peers: Delta's quickstart, on this machine. All settings but the heap are defaults."""

from __future__ import annotations

import os

from pyspark.sql import SparkSession

#: With its default of 1 GB, the scripts' Silver ends in an OutOfMemoryError on 5,000,000 trades.
HEAP = "8g"


def quickstart_session(name: str) -> SparkSession:
    """A local session with Delta and Kafka on the class path. The jars' list and Java come from the environment."""
    session = (
        SparkSession.Builder()
        .appName(name)
        .master(os.environ["BENCH_SPARK_MASTER"])
        .config("spark.driver.memory", HEAP)
        .config("spark.jars", os.environ["BENCH_SPARK_JARS"])
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        # Servers of this project listen on loopback only.
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        # Hive's files, which a session in a shared folder would leave there.
        .config("spark.sql.warehouse.dir", os.environ["BENCH_SCRATCH"])
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session
