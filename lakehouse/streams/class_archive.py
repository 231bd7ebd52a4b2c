"""The classes of a stream's JVM, loaded and verified once and mapped into memory from then on (Java's AppCDS).

    python -m lakehouse.streams.class_archive      make the archive of this environment; `make` does so once

It is made by a real stream: a broker and a lake in a temporary folder, a few messages through the three layers, after
which the JVM writes down the classes that it has loaded. Some 190 MB, beside the installed packages.
Guarantee: an archive is of one Java, one pyspark and one set of jars; with others it has another name, and Java itself
refuses one that does not fit and starts without. Nothing depends on it but the seconds of a start.
Source: JDK 17, `java -XX:ArchiveClassesAtExit` and `-XX:SharedArchiveFile`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Producer

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.java import find_java
from lakehouse.settings import load_settings
from lakehouse.streams.gateway import class_path

#: Messages of each topic that go through the layers; that they are no trades takes them through Spark's rules.
MESSAGES = 10
#: Seconds for the JVM to write its classes.
DUMP_SECONDS = 300.0


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


def make(file: Path) -> None:
    """Make an archive, in a process of its own. Raises LakehouseError where that fails."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-classes-") as folder:
        made = file.with_suffix(".new")
        command = [sys.executable, "-m", __spec__.name, "--record", folder, str(made)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or not made.exists():
            made.unlink(missing_ok=True)
            last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LakehouseError(f"no archive of the JVM's classes: {last}", remedy="streams start without it, slower")
        made.rename(file)


def record(folder: Path, file: Path) -> None:
    """Run the three layers once in a folder of their own and have the JVM write down its classes."""
    from lakehouse.streams.materialize import materialize
    from lakehouse.streams.session import build_session, end_session

    with EmbeddedBroker(load_settings(home=folder)) as broker:
        settings = load_settings(home=folder, bootstrap_servers=broker.bootstrap)
        ensure_topics(settings)
        producer = Producer({"bootstrap.servers": settings.bootstrap(), "log_level": 0})
        for topic in settings.topics:
            for number in range(MESSAGES):
                producer.produce(topic, f"no trade {number}".encode())
        producer.flush()
        build_session(settings, java_options=(f"-XX:ArchiveClassesAtExit={file}", "-Xlog:disable"))
        materialize(settings)
        end_session(DUMP_SECONDS)


def main(arguments: list[str]) -> int:
    """Returns the exit code; without an archive everything works, so that is no failure of an installation."""
    if arguments[:1] == ["--record"]:
        record(Path(arguments[1]), Path(arguments[2]))
        return 0
    try:
        file = archive(find_java(for_spark=True))
        if not file.exists():
            print("archive of the JVM's classes, once: half a minute", flush=True)
            for old in file.parent.glob("spark-classes-*"):
                old.unlink()
            make(file)
    except LakehouseError as error:
        print(f"lakehouse: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
