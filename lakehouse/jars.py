"""The JVM jars of Spark's connectors and of the embedded Kafka, by pip alone: jgo fetches them from Maven.

`jars.lock` names every jar with its sha256 and size, and names no host. It *is* the resolution: a normal start walks no
dependency graph, it downloads the locked jars (once, into a per-user cache), verifies each hash, and from then on only
compares sizes, which takes a millisecond and imports no jgo.

Environment: LAKEHOUSE_JARS is a folder that already holds `spark/` and `broker/` (a Docker image; see `--to`): then
nothing is ever downloaded. LAKEHOUSE_MAVEN_URL is a Maven mirror in place of Central.

    python -m lakehouse.jars              fetch both sets now
    python -m lakehouse.jars --to FOLDER  the same, into FOLDER/spark and FOLDER/broker
    python -m lakehouse.jars --lock       resolve the coordinates below anew and rewrite jars.lock
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from lakehouse import maven
from lakehouse.errors import LakehouseError, MissingDependencyError

JarSet = Literal["spark", "broker"]
Report = Callable[[str], None]

#: Groups of a set are resolved apart: jgo applies the version management of every coordinate of a group to all of it,
#: and log4j's own would put kafka-clients 3.9.1 under a 4.3.1 broker.
COORDINATES: dict[JarSet, tuple[tuple[str, ...], ...]] = {
    "spark": (
        (
            "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
            # 4.4.1 does not resolve, nor does a token provider newer than 4.0.0; both run with Spark 4.2.0.
            "io.delta:delta-spark_4.2_2.13:4.4.0",
            "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
            # Hadoop without its native library starts `chmod` for every file that it makes (docs/adr/0010).
            "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0",
        ),
    ),
    "broker": (
        ("org.apache.kafka:kafka_2.13:4.3.1", "org.apache.kafka:kafka-tools:4.3.1"),
        # Kafka brings slf4j-api 1.7 and log4j2, but nothing that joins them.
        ("org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",),
    ),
}

LOCK = Path(__file__).with_name("jars.lock")
RELOCK = "python -m lakehouse.jars --lock"
#: Downloads at a time; more does not help, one large jar dominates.
PARALLEL = 4


class LockedJar(NamedTuple):
    """One line of jars.lock."""

    jar_set: JarSet
    sha256: str
    size: int
    group: str
    artifact: str
    version: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def _quiet(_line: str) -> None:
    pass


def spark_jars() -> list[Path]:
    """The jars to put into `spark.jars`: what pyspark's own jars folder does not have.

    Raises MissingDependencyError, one line, where they are not here and cannot be fetched.
    """
    return jars("spark")


def broker_jars() -> list[Path]:
    """The class path of the embedded Kafka. Raises MissingDependencyError as `spark_jars` does."""
    return jars("broker")


def jars(jar_set: JarSet, report: Report = _quiet) -> list[Path]:
    """The jars of a set, verified, in the lock's order; fetches what is not here yet."""
    locked = [jar for jar in read_lock() if jar.jar_set == jar_set]
    folder = jars_folder() / jar_set
    if absent(locked, folder):
        if is_given():
            raise MissingDependencyError(
                f"LAKEHOUSE_JARS: {folder} lacks {_some(absent(locked, folder))} or holds another size of it",
                "the jars of lakehouse/jars.lock",
                f"fill it by `python -m lakehouse.jars --to {folder.parent}` or unset LAKEHOUSE_JARS",
            )
        fetch(locked, folder, report)
    return [folder / jar.name for jar in locked]


def is_ready(jar_set: JarSet) -> bool:
    """Whether all jars of the set are here, so that nothing would be downloaded."""
    return not absent([jar for jar in read_lock() if jar.jar_set == jar_set], jars_folder() / jar_set)


def cache_folder() -> Path:
    """Per-user cache of jars and Maven's files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crypto-lakehouse"


def is_given() -> bool:
    """Whether LAKEHOUSE_JARS names a folder, so that nothing is ever downloaded."""
    return bool(os.environ.get("LAKEHOUSE_JARS"))


def jars_folder() -> Path:
    """The folder with `spark/` and `broker/`: LAKEHOUSE_JARS, else in the cache."""
    return Path(os.environ["LAKEHOUSE_JARS"]) if is_given() else cache_folder() / "jars"


def read_lock() -> list[LockedJar]:
    """The lines of jars.lock."""
    entries = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            jar_set, sha256, size, coordinate = line.split()
            group, artifact, version = coordinate.split(":")
            entries.append(
                LockedJar("spark" if jar_set == "spark" else "broker", sha256, int(size), group, artifact, version)
            )
    return entries


def absent(locked: list[LockedJar], folder: Path) -> list[LockedJar]:
    """The locked jars that `folder` does not hold in their size. Hashes were verified when they were put there."""
    missing = []
    for jar in locked:
        try:
            if (folder / jar.name).stat().st_size == jar.size:
                continue
        except OSError:
            pass
        missing.append(jar)
    return missing


def fetch(locked: list[LockedJar], folder: Path, report: Report = _quiet) -> None:
    """Put the locked jars that `folder` lacks into it, each verified before it takes its name there.

    Safe against other processes doing the same, and against being killed: a file lock, and a rename as last step.
    """
    with _one_process():
        missing = absent(locked, folder)  # Another process may have done it while we waited.
        if not missing:
            return
        megabytes = sum(jar.size for jar in missing) / 1e6
        report(f"{folder.name}: fetching {len(missing)} jars, {megabytes:.0f} MB")
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(PARALLEL) as pool:
            for number, jar in enumerate(pool.map(lambda jar: _fetch_one(jar, folder), missing), start=1):
                report(f"{folder.name}: {number}/{len(missing)} {jar.name}")


def _fetch_one(jar: LockedJar, folder: Path) -> LockedJar:
    # 1. The user's Maven cache, read only, if it has this very jar.
    source = _user_repository() / jar.group.replace(".", "/") / jar.artifact / jar.version / jar.name
    if not (source.exists() and _sha256(source) == jar.sha256):
        # 2. Our own Maven cache; a jar cut short by a kill has the wrong hash there and is fetched again.
        artifact = maven.artifact(jar.group, jar.artifact, jar.version, cache_folder() / "maven")
        source = Path(str(artifact.cached_path))
        if source.exists() and _sha256(source) != jar.sha256:
            source.unlink()
        with maven.one_line_errors(jar.name):
            artifact.resolve()
    # 3. Verify what came, whoever sent it.
    found = _sha256(source)
    if found != jar.sha256:
        size = source.stat().st_size
        source.unlink()
        raise MissingDependencyError(
            f"{jar.name} as downloaded has sha256 {found[:16]}… and {size} bytes",
            f"sha256 {jar.sha256[:16]}… and {jar.size} bytes (lakehouse/jars.lock)",
            "try again; if it stays, the Maven mirror serves another file",
        )
    # 4. Under its name in one step, so that no reader ever sees a part of it.
    partial = folder / f".{jar.name}.{os.getpid()}"
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(folder / jar.name)
    return jar


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _user_repository() -> Path:
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(missing: list[LockedJar]) -> str:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"{missing[0].name}{more}"


def _artifact_name(jar: str) -> str:
    """`slf4j-api-2.0.17.jar` → `slf4j-api`: up to the first part that begins with a digit."""
    parts = jar.removesuffix(".jar").split("-")
    return "-".join(part for index, part in enumerate(parts) if not any(p[:1].isdigit() for p in parts[1 : index + 1]))


def resolve(jar_set: JarSet) -> list[LockedJar]:
    """Walk the dependency graph of the set's coordinates anew and hash every jar. Takes a minute, online."""
    provided = _pyspark_jars() if jar_set == "spark" else set()
    locked: dict[str, LockedJar] = {}
    for group in COORDINATES[jar_set]:
        with maven.one_line_errors(" + ".join(group)):
            for artifact in maven.graph(group, cache_folder() / "maven"):
                if artifact.artifactId in provided:
                    continue
                path = artifact.resolve()
                coordinate = (artifact.groupId, artifact.artifactId, artifact.version)
                jar = LockedJar(jar_set, _sha256(path), path.stat().st_size, *coordinate)
                if path.name != jar.name or locked.setdefault(jar.artifact, jar) != jar:
                    raise MissingDependencyError(
                        f"{jar_set}: {path.name} beside {locked[jar.artifact].name}", "one jar"
                    )
    return sorted(locked.values(), key=lambda jar: jar.name)


def _pyspark_jars() -> set[str]:
    """Artifact names of the jars that pyspark itself brings."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise MissingDependencyError("pyspark is not installed", "it, to leave out its own jars", "pip install it")
    return {_artifact_name(path.name) for path in (Path(spec.origin).parent / "jars").glob("*.jar")}


def write_lock() -> int:
    """Resolve both sets and rewrite jars.lock; returns the number of jars."""
    with _one_process():
        entries = [jar for jar_set in get_args(JarSet) for jar in resolve(jar_set)]
    lines = [f"# Written by `{RELOCK}`. One jar a line: set, sha256, bytes, Maven coordinate."]
    lines += [f"{jar.jar_set} {jar.sha256} {jar.size} {jar.group}:{jar.artifact}:{jar.version}" for jar in entries]
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(entries)


def main(arguments: list[str] | None = None) -> int:
    """`python -m lakehouse.jars`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.jars", description="Fetch and verify the JVM jars.")
    parser.add_argument("--lock", action="store_true", help="resolve the coordinates anew and rewrite jars.lock")
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="fill FOLDER/spark and FOLDER/broker (for LAKEHOUSE_JARS)"
    )
    options = parser.parse_args(arguments)
    try:
        if options.lock:
            print(f"{LOCK}: {write_lock()} jars")
            return 0
        for jar_set in get_args(JarSet):
            if options.to is not None:
                locked = [jar for jar in read_lock() if jar.jar_set == jar_set]
                folder = options.to.absolute() / jar_set
                fetch(locked, folder, report=print)
            else:
                jars(jar_set, report=print)
                folder = jars_folder() / jar_set
            print(f"{jar_set}: jars are in {folder}", flush=True)
    except LakehouseError as error:
        print(f"lakehouse: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
