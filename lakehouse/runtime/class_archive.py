"""The archive of a stream's JVM classes, loaded and verified once and mapped into memory from then on (Java's AppCDS).

Some 190 MB, beside the installed packages; `lakehouse.streams.class_training` makes it.
Guarantee: an archive is of one Java, one pyspark and one set of jars; with others it has another name, and Java itself
refuses one that does not fit and starts without. Nothing depends on it but the seconds of a start.
Source: JDK 17, `java -XX:SharedArchiveFile`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from lakehouse.runtime.jvm import class_path


def archive(java: Path) -> Path:
    """Where the archive for this Java is, or would be."""
    jars = [f"{jar}:{jar.stat().st_size}:{jar.stat().st_mtime_ns}" for jar in class_path()]
    parts = [str(java), str(java.stat().st_mtime_ns), *jars]
    return Path(sys.prefix) / f"spark-classes-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}.jsa"


def java_options(java: Path) -> tuple[str, ...]:
    """Java's options for starting from the archive; none where there is no archive."""
    file = archive(java)
    # Java says a line where the archive does not fit, and then starts without it.
    return (f"-XX:SharedArchiveFile={file}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off") if file.exists() else ()
