"""The one SparkSession builder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lakehouse.jars import spark_jars
from lakehouse.java import find_java
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Exactness and bounds that hold wherever Spark runs; a cluster's own settings stay as they are.
SESSION_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # Keeps 18 decimals in a division of DECIMAL(38,18); by default Spark would cut the scale to 6.
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Bronze, Silver and Gold share one application: none may starve the others.
    "spark.scheduler.mode": "FAIR",
    # Batches are small; two partitions are what a laptop's cores can use. A cluster sets its own.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    # A driver that lives for days must not collect history (delta#7178).
    "spark.ui.enabled": "false",
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
    "spark.sql.ui.retainedExecutions": "20",
    "spark.sql.streaming.ui.enabled": "false",
    "spark.sql.streaming.numRecentProgressUpdates": "10",
    "spark.sql.streaming.minBatchesToRetain": "20",
    "spark.ui.showConsoleProgress": "false",
    # How long Silver and Gold wait before they look for news again; each look lists the log of a Delta table.
    "spark.sql.streaming.pollingDelay": "250ms",
}

#: Only for a master inside this process: loopback, and a heap that gives memory back to a laptop.
LOCAL_CONF = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": (
        "-XX:+UseG1GC -XX:G1PeriodicGCInterval=60000 -XX:ReservedCodeCacheSize=256m -Xss4m "
        # Without it a generated method beyond 8,000 bytes is interpreted for ever.
        "-XX:-DontCompileHugeMethods"
    ),
}


def build_session(settings: Settings) -> SparkSession:
    """The SparkSession of this process, made on the first call and shared after it.

    Raises MissingDependencyError where Java or the jars are not to be had.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    os.environ["JAVA_HOME"] = str(find_java(for_spark=True).parent.parent)
    builder = SparkSession.Builder().appName("lakehouse").master(settings.spark_master)
    conf = {
        **SESSION_CONF,
        **(LOCAL_CONF if settings.spark_master.startswith("local") else {}),
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.jars": ",".join(str(jar) for jar in spark_jars()),
    }
    for name, value in conf.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
