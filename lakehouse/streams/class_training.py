"""Archive of the classes that the streams' JVM loads, made once and mapped by later starts (Java's AppCDS).

    python -m lakehouse.streams.class_training      make the archive of this environment; `make` does so once

It is recorded from a real run: a broker and a lake in a temporary folder, a few messages through the three layers,
after which the JVM writes down the classes that it has loaded.
Source: JDK 17, `java -XX:ArchiveClassesAtExit`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Producer

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.runtime.class_archive import archive
from lakehouse.runtime.java import find_java
from lakehouse.runtime.spark_session import build_session
from lakehouse.settings import load_settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.tasks import Tasks

#: Number of messages of each topic.
MESSAGES = 10
#: Seconds for the run and for the JVM to write its classes.
RECORD_SECONDS = 600.0


def make(file: Path) -> None:
    """Make an archive in a process of its own. Raises LakehouseError if that fails."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-classes-") as folder:
        made = file.with_suffix(".new")
        command = [sys.executable, "-m", __spec__.name, "--record", folder, str(made)]
        # The JVM ends after the process that started it. It has the other end of these pipes too, so we wait for both.
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RECORD_SECONDS)
        except subprocess.TimeoutExpired:
            made.unlink(missing_ok=True)
            raise _no_archive(f"not made within {RECORD_SECONDS:g} s") from None
        if run.returncode or not made.exists():
            made.unlink(missing_ok=True)
            raise _no_archive((run.stderr.strip().splitlines() or ["no reason given"])[-1])
        made.rename(file)


def _no_archive(reason: str) -> LakehouseError:
    return LakehouseError(f"no archive of the JVM's classes: {reason}", remedy="streams start without it, slower")


def record(folder: Path, file: Path) -> None:
    """Run the three layers once in a folder of their own; the JVM writes its classes to `file` as this process ends."""
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
        Tasks(settings).run((-1, 1), abs)  # a job in Python's workers, as a large batch has


def main(arguments: list[str]) -> int:
    """Make the archive if it does not exist, or record it (`--record FOLDER FILE`). Return the exit code, 0.

    Streams work without an archive, so an error is printed and is no failure of an installation.
    """
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
