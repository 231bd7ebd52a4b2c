"""Build the one SparkSession of a process, with the settings that every session needs.

pyspark starts the JVM by `spark-submit`, in a thread of ours, so that its caller goes on meanwhile. The JVM reads the
end of a pipe: it ends when this process does, even if that is killed. It ignores Ctrl-C, which is for us.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from lakehouse.errors import RetriableError
from lakehouse.runtime import class_archive
from lakehouse.runtime.jars import spark_home, spark_jars
from lakehouse.runtime.java import find_java
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

#: Word of the command line by which the JVM of a master inside this process is recognised. Java only keeps it.
JVM_MARK = "-Dlakehouse.part=spark"

#: Spark's settings, and Java's options, for a master inside this process; the driver listens on loopback only.
LOCAL_CONF = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
LOCAL_JAVA = ("-XX:ReservedCodeCacheSize=256m", "-Xss4m", JVM_MARK)

#: Spark's settings for a master, workers and executors in processes of their own on this machine: `local-cluster[…]`.
#: Their JVMs see no rows. With Java's own choice, C2 and G1, they take more CPU than the works do.
CLUSTER_HERE_CONF = {
    f"spark.{part}.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" for part in ("driver", "executor")
}

#: Where Spark makes a folder for each database of its catalog once one is named. Nothing is kept there, as what we name
#: are views (`lakehouse.spark_sql`). By default it is a folder in the working directory.
_WAREHOUSE = Path(tempfile.gettempdir()) / f"lakehouse-spark-{uuid.uuid4().hex}"

#: Seconds for a session whose master is inside this process; it takes some four, and many on a machine under load.
START_SECONDS = 180.0

#: Seconds for a JVM to end after it was asked, before it is killed.
_END_SECONDS = 5.0

#: Layers start at the same time, in threads.
_ONE_START = threading.Lock()

#: The session that is being made, if any; it waits here until `build_session` takes it.
_STARTS: list[Future[SparkSession]] = []


def expect_session(settings: Settings) -> None:
    """Begin to make a stream's session that will be needed soon, without waiting for it; `build_session` takes it.

    Does nothing if Spark's master is a cluster, or if there is a session already. Raises MissingDependencyError if Java
    or the jars are missing and cannot be fetched.
    """
    limit_heaps()
    with _ONE_START:
        if is_in_process(settings) and not _STARTS and _existing() is None:
            _STARTS.append(_begin(settings, False, ()))


def build_session(settings: Settings, bulk: bool = False, java_options: tuple[str, ...] = ()) -> SparkSession:
    """Return the SparkSession of this process, made by the first call.

    Set `bulk` if Spark itself works on many rows, as for people's queries; a stream's rows do not go through Spark.
    Settings and Java's options are those of the first call, or of `expect_session` if that came before it. Raises
    MissingDependencyError if Java or the jars are missing and cannot be fetched, RetriableError if the JVM ends at its
    start or does not answer within START_SECONDS.
    """
    with _ONE_START:
        if not _STARTS:
            existing = _existing()
            if existing is not None:
                return existing
            limit_heaps()
            _STARTS.append(_begin(settings, bulk, java_options))
        try:
            session = _wait(_STARTS[0], START_SECONDS if is_in_process(settings) else None)
        finally:
            _STARTS.clear()
        collect_seldom()
        return session


def _existing() -> SparkSession | None:
    if "pyspark.sql" not in sys.modules:  # to import it takes half a second, and the JVM can start meanwhile
        return None
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    with suppress(PySparkRuntimeError):
        return SparkSession.active()
    return None


def _begin(settings: Settings, bulk: bool, java_options: tuple[str, ...]) -> Future[SparkSession]:
    """Make a session in a thread of its own, which nothing waits for at the end of this process."""
    java = find_java(for_spark=True)
    conf = {**SESSION_CONF, **({} if bulk else QUICK_CONF), **_location_conf(settings)}
    if is_in_process(settings):
        options = LOCAL_JAVA + class_archive.java_options(java) + (BULK_JAVA if bulk else QUICK_JAVA) + java_options
        conf |= {"spark.driver.extraJavaOptions": " ".join(map(_quoted, options))}
    _set_environment(settings, java)
    made: Future[SparkSession] = Future()

    def make() -> None:
        try:
            made.set_result(_make(settings.spark_master, conf))
        except BaseException as error:  # the caller of `build_session` gets it
            made.set_exception(error)

    atexit.register(shutil.rmtree, _WAREHOUSE, ignore_errors=True)
    atexit.register(_abandon, made)
    threading.Thread(target=make, name="spark-start", daemon=True).start()
    return made


def _make(master: str, conf: dict[str, str]) -> SparkSession:
    from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    builder = SparkSession.Builder().appName("lakehouse").master(master)
    for name, value in conf.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise _no_jvm("ended at its start") from error
    except (Py4JError, OSError) as error:
        if isinstance(error, Py4JJavaError):  # the JVM lives, and says what it does not like
            raise
        raise _no_jvm("ended before there was a session") from error
    return session


def _no_jvm(found: str) -> RetriableError:
    return RetriableError(
        f"Java {found}",
        "a JVM with a Spark session",
        "look at what it said before this line; LAKEHOUSE_SPARK_DRIVER_MEMORY may be more than there is",
    )


def _wait(made: Future[SparkSession], seconds: float | None) -> SparkSession:
    try:
        return made.result(seconds)
    except TimeoutError:
        if made.done():  # it failed with such an error itself
            raise
        _abandon(made)
        raise _no_jvm("did not answer in time") from None


def _abandon(made: Future[SparkSession]) -> None:
    """End the JVM of a session that is still being made, so that pyspark's call, which knows no time limit, ends."""
    deadline = time.monotonic() + _END_SECONDS
    while not made.done() and time.monotonic() < deadline + _END_SECONDS:
        for child in psutil.Process().children():
            # Until the JVM is there its process is `spark-submit`, with the same words among its arguments.
            with suppress(psutil.Error):
                if JVM_MARK in " ".join(child.cmdline()):
                    child.terminate() if time.monotonic() < deadline else child.kill()
        with suppress(Exception):
            made.exception(0.1)


def _location_conf(settings: Settings) -> dict[str, str]:
    """Settings that depend on where the driver runs. A cluster is sent the jars and keeps its own Java options."""
    conf = {"spark.driver.memory": settings.spark_driver_memory}
    if not is_in_process(settings):
        conf |= {"spark.jars": ",".join(map(str, spark_jars()))}
        return conf | (LOCAL_CONF | CLUSTER_HERE_CONF if settings.spark_master.startswith("local") else {})
    # Classes of `spark.jars` come from a loader of Spark's, which the archive of classes cannot hold.
    conf |= {"spark.driver.extraClassPath": os.pathsep.join(map(str, spark_jars()))}
    conf |= LOCAL_CONF | {"spark.sql.warehouse.dir": str(_WAREHOUSE)}
    return conf | (LOCAL_FILES_CONF if urlsplit(settings.checkpoints).scheme in ("", "file") else {})


def _set_environment(settings: Settings, java: Path) -> None:
    """Say by the environment which Java and Python are meant; on this machine, which Spark."""
    os.environ["JAVA_HOME"] = str(java.parent.parent)
    if settings.spark_master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark's Python workers use this environment
    if is_in_process(settings):
        os.environ["SPARK_HOME"] = str(spark_home())
    elif settings.spark_master.startswith("local"):  # the master and workers of `local-cluster[…]`
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def _quoted(option: str) -> str:
    """Return an option as `spark-submit` splits it: one with a space between double quotes."""
    return f'"{option}"' if " " in option else option


def is_in_process(settings: Settings) -> bool:
    """Return True if Spark's executor is in the driver's process: `local`, `local[2]`, but not `local-cluster[…]`."""
    return settings.spark_master == "local" or settings.spark_master.startswith("local[")
