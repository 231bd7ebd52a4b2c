"""Build and end the one SparkSession of a process, with the settings that every session needs."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakehouse.runtime import class_archive
from lakehouse.runtime.jars import spark_jars
from lakehouse.runtime.java import find_java
from lakehouse.runtime.jvm import Jvm
from lakehouse.runtime.process_memory import collect_seldom, limit_heaps
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Spark's settings for exact figures and bounded memory, wherever Spark runs; a cluster's other settings stay its own.
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
    # Broadcasts of a batch are freed by a collection of the old generation; Spark's default is one every half hour.
    "spark.cleaner.periodicGC.interval": "5min",
    "spark.ui.showConsoleProgress": "false",
    # How long Silver and Gold wait before they look for news again; each look lists the log of a Delta table.
    "spark.sql.streaming.pollingDelay": "250ms",
}

#: Spark's settings and Java's options for a stream's session, which handles few rows itself: generating and compiling
#: code for them costs more than it saves. The first option of `QUICK_JAVA` cuts a start to a third of its time
#: (docs/adr/0009).
QUICK_CONF = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
QUICK_JAVA = (
    "-XX:TieredStopAtLevel=1",
    # Such a session keeps 100 MB alive. G1 let its heap grow for half an hour before it collected the rest.
    "-XX:+UseSerialGC",
    "-Xms256m",
)

#: Java's options for a session that works on many rows. Without the first option a generated method of more than 8,000
#: bytes is always interpreted; the others give memory back to a laptop.
BULK_JAVA = ("-XX:-DontCompileHugeMethods", "-XX:+UseG1GC", "-XX:G1PeriodicGCInterval=60000")

#: Spark's settings if checkpoints are files of this machine. Hadoop without its native library starts a `chmod` for
#: each file that it makes; this file system calls Java instead. It implements only Hadoop's FileSystem, so Spark's
#: checkpoints must use that too: their usual manager goes by FileContext (docs/adr/0010).
LOCAL_FILES_CONF = {
    "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}

#: Spark's settings, and Java's options, for a master inside this process; the driver listens on loopback only.
LOCAL_CONF = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
LOCAL_JAVA = ("-XX:ReservedCodeCacheSize=256m", "-Xss4m")

#: Where Spark makes a folder for each database of its catalog once one is named. Nothing is kept there, as what we name
#: are views (`lakehouse.spark_sql`). By default it is a folder in the working directory.
_WAREHOUSE = Path(tempfile.gettempdir()) / f"lakehouse-spark-{uuid.uuid4().hex}"

#: Layers start at the same time, in threads.
_ONE_START = threading.Lock()

#: The JVM that this process started, if any; it waits here until the session takes it.
_JVMS: list[Jvm] = []

#: Set once this process has made a session: pyspark then keeps its JVM, also after the session's end.
_HAD_SESSION = threading.Event()


def expect_session(settings: Settings) -> None:
    """Start the JVM for a stream's session that will be built soon, without waiting for it; `build_session` takes it.

    Starts no JVM if Spark's master is a cluster, or if there is one already. Raises MissingDependencyError if Java or
    the jars are missing and cannot be fetched.
    """
    limit_heaps()
    with _ONE_START:
        if is_in_process(settings) and not _has_jvm() and not _JVMS:
            _JVMS.append(_new_jvm(settings, QUICK_JAVA))


def build_session(settings: Settings, bulk: bool = False, java_options: tuple[str, ...] = ()) -> SparkSession:
    """Return the SparkSession of this process, made by the first call.

    Set `bulk` if Spark itself works on many rows, as for people's queries; a stream's rows do not go through Spark.
    Java's options are those of the first call, or of `expect_session` if that came before it. A later call on another
    thread, where Spark knows no active session, sets Spark's settings anew on the same session. Raises
    MissingDependencyError if Java or the jars are missing and cannot be fetched, RetriableError if the JVM ends at its
    start or does not answer.
    """
    from pyspark.sql import SparkSession

    with _ONE_START:
        active = SparkSession.getActiveSession()
        return active if active is not None else _start(settings, bulk, java_options)


def end_session(timeout: float) -> None:
    """Stop the session and end its JVM within `timeout` seconds, for callers that must outlive the JVM.

    Raises subprocess.TimeoutExpired if the JVM lives on.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        active.stop()
    if _JVMS:
        _JVMS.pop().end(timeout)


def _start(settings: Settings, bulk: bool, java_options: tuple[str, ...]) -> SparkSession:
    from pyspark.sql import SparkSession

    limit_heaps()
    collect_seldom()
    atexit.register(shutil.rmtree, _WAREHOUSE, ignore_errors=True)
    builder = SparkSession.Builder().appName("lakehouse").master(settings.spark_master)
    conf = {**SESSION_CONF, **({} if bulk else QUICK_CONF), **_location_conf(settings)}
    for name, value in conf.items():
        builder = builder.config(name, value)
    with _jvm(settings, (BULK_JAVA if bulk else QUICK_JAVA) + java_options):
        session = builder.getOrCreate()
    _HAD_SESSION.set()
    session.sparkContext.setLogLevel("ERROR")
    return session


def _location_conf(settings: Settings) -> dict[str, str]:
    """Settings that depend on where the driver runs. A cluster is sent the jars and keeps its own Java options."""
    if not is_in_process(settings):
        jars = ",".join(str(jar) for jar in spark_jars())
        conf = {"spark.jars": jars, "spark.driver.memory": settings.spark_driver_memory}
        return conf | (LOCAL_CONF if settings.spark_master.startswith("local") else {})
    conf = LOCAL_CONF | {"spark.sql.warehouse.dir": str(_WAREHOUSE)}
    return conf | (LOCAL_FILES_CONF if urlsplit(settings.checkpoints).scheme in ("", "file") else {})


@contextmanager
def _jvm(settings: Settings, options: tuple[str, ...]) -> Iterator[None]:
    """Offer pyspark our own JVM if the master is inside this process; it starts that of a cluster's driver itself."""
    if settings.spark_master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark's Python workers use this environment
    if not is_in_process(settings):
        os.environ["JAVA_HOME"] = str(find_java(for_spark=True).parent.parent)
        if settings.spark_master.startswith("local"):  # the master and workers of `local-cluster[…]`
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if not is_in_process(settings) or _has_jvm():
        yield
        return
    if not _JVMS:
        _JVMS.append(_new_jvm(settings, options))
    try:
        offer = _JVMS[-1].offer()
    except BaseException:
        _JVMS.clear()
        raise
    os.environ.update(offer)
    try:
        yield
    finally:
        for name in offer:  # a child process must not take this JVM for its own
            del os.environ[name]


def _has_jvm() -> bool:
    """Return whether pyspark has a JVM: that of a session of ours, or of one that somebody else has made and kept."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    with suppress(PySparkRuntimeError):
        return _HAD_SESSION.is_set() or SparkSession.active() is not None
    return False


def _new_jvm(settings: Settings, options: tuple[str, ...]) -> Jvm:
    java = find_java(for_spark=True)
    os.environ["JAVA_HOME"] = str(java.parent.parent)
    options = LOCAL_JAVA + class_archive.java_options(java) + options
    return Jvm(java, settings.spark_driver_memory, options)


def is_in_process(settings: Settings) -> bool:
    """Return True if Spark's executor is in the driver's process: `local`, `local[2]`, but not `local-cluster[…]`."""
    return settings.spark_master == "local" or settings.spark_master.startswith("local[")
