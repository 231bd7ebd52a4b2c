"""Archive of a stream's JVM classes: loaded and verified once and mapped into memory at each start (Java's AppCDS).

It has some 190 MB and lies beside the installed packages; `lakehouse.streams.class_training` makes it.
Guarantee: an archive belongs to one Java, one pyspark and one set of jars, by its name. Java refuses an archive that
does not fit and starts without it. A missing archive costs only seconds at a start.
Source: JDK 17, `java -XX:SharedArchiveFile`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from lakehouse.runtime.jars import spark_home, spark_jars


def archive(java: Path) -> Path:
    """Return the path of the archive for this Java, whether or not it exists."""
    jars = [f"{jar}:{jar.stat().st_size}:{jar.stat().st_mtime_ns}" for jar in class_path()]
    parts = [str(java), str(java.stat().st_mtime_ns), *jars]
    return Path(sys.prefix) / f"spark-classes-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}.jsa"


def java_options(java: Path) -> tuple[str, ...]:
    """Return the options by which this Java starts from its archive; empty if the archive does not exist."""
    file = archive(java)
    # Without the last two Java prints a line if the archive does not fit, before it starts without it.
    return (f"-XX:SharedArchiveFile={file}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off") if file.exists() else ()


def class_path() -> list[Path]:
    """Return the jars of the streams' JVM, those of the connectors and Spark's own, the former first.

    Raises MissingDependencyError if pyspark is not installed, or a connector's jar is missing and cannot be fetched.
    """
    return [*spark_jars(), *sorted((spark_home() / "jars").glob("*.jar"))]
