"""Provide the JVM jars of Spark's connectors and of the embedded Kafka; they come from Maven repositories through jgo.

`jars.lock` names every jar with its sha256 and size, and names no host. It *is* the resolution: a normal start walks no
dependency graph, it downloads the locked jars (once, into a per-user cache), verifies each hash, and from then on only
compares sizes, which takes a millisecond and imports no jgo.

Environment: if LAKEHOUSE_JARS names a folder that holds `spark/` and `broker/` (a Docker image; see `--to`), nothing is
ever downloaded. LAKEHOUSE_MAVEN_URL is a Maven mirror to use in place of Central.

    python -m lakehouse.runtime.jars              fetch both sets now
    python -m lakehouse.runtime.jars --to FOLDER  the same, into FOLDER/spark and FOLDER/broker
    python -m lakehouse.runtime.jars --lock       resolve the coordinates below anew and rewrite jars.lock
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from lakehouse.errors import LakehouseError, MissingDependencyError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

JarSet = Literal["spark", "broker"]

#: Coordinates of each set. jgo resolves each group by itself: it applies the version management of every coordinate to
#: the whole group, and that of log4j would put kafka-clients 3.9.1 under a 4.3.1 broker.
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
RELOCK = "python -m lakehouse.runtime.jars --lock"
#: Most downloads at a time. A small jar is mostly waiting for answers; more would not be polite to the mirror.
PARALLEL = 8


class LockedJar(NamedTuple):
    """One line of jars.lock: a jar's set, sha256 in hex, size in bytes and Maven coordinate."""

    jar_set: JarSet
    sha256: str
    size: int
    group: str
    artifact: str
    version: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def path(self, folder: Path) -> Path:
        """Return the path of the jar in a folder that has `spark/` and `broker/`."""
        return folder / self.jar_set / self.name


def spark_home() -> Path:
    """Return the folder of the installed pyspark. Raises MissingDependencyError if there is none."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise MissingDependencyError("pyspark is not installed", "it, for its jars", "pip install it")
    return Path(spec.origin).parent


def spark_jars() -> list[Path]:
    """Return the jars that Spark needs beside those of pyspark's own folder.

    Raises MissingDependencyError if a jar is missing and cannot be fetched.
    """
    return jars("spark")


def broker_jars() -> list[Path]:
    """Return the class path of the embedded Kafka. Raises MissingDependencyError if a jar cannot be fetched."""
    return jars("broker")


def jars(*jar_sets: JarSet) -> list[Path]:
    """Return the verified jars of these sets, fetched if missing. Raises MissingDependencyError if that fails."""
    locked = [jar for jar in read_lock() if jar.jar_set in jar_sets]
    folder = jars_folder()
    missing = absent(locked, folder)
    if missing and is_given():
        folder_of_set, more = (
            missing[0].path(folder).parent,
            f" and {len(missing) - 1} more" if len(missing) > 1 else "",
        )
        raise MissingDependencyError(
            f"LAKEHOUSE_JARS: {folder_of_set} lacks {missing[0].name}{more} or holds another size of it",
            "the jars of lakehouse/runtime/jars.lock",
            f"fill it by `python -m lakehouse.runtime.jars --to {folder}` or unset LAKEHOUSE_JARS",
        )
    if missing:
        fetch(locked, folder)
    return [jar.path(folder) for jar in locked]


def is_ready(jar_set: JarSet) -> bool:
    """Return True if all jars of the set are here, so that nothing would be downloaded."""
    return not absent([jar for jar in read_lock() if jar.jar_set == jar_set], jars_folder())


def cache_folder() -> Path:
    """Return the folder of this user's jars and Maven files: `crypto-lakehouse` in XDG_CACHE_HOME or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crypto-lakehouse"


def is_given() -> bool:
    """Return True if LAKEHOUSE_JARS names a folder, so that nothing is ever downloaded."""
    return bool(os.environ.get("LAKEHOUSE_JARS"))


def jars_folder() -> Path:
    """Return the folder with `spark/` and `broker/`: LAKEHOUSE_JARS if it is set, else a folder of the cache."""
    return Path(os.environ["LAKEHOUSE_JARS"]) if is_given() else cache_folder() / "jars"


def read_lock() -> list[LockedJar]:
    """Read jars.lock: every jar of both sets."""
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
    """Return the locked jars that `folder` lacks or has in another size. Hashes were verified at the download."""
    missing = []
    for jar in locked:
        with contextlib.suppress(OSError):
            if jar.path(folder).stat().st_size == jar.size:
                continue
        missing.append(jar)
    return missing


def fetch(locked: list[LockedJar], folder: Path) -> None:
    """Fetch the locked jars that `folder` lacks into its `spark/` and `broker/`; verify each before it gets its name.

    A file lock makes this safe beside other processes, a rename as the last step makes it safe against being killed.
    The first failure raises MissingDependencyError; jars that were fetched before it stay.
    """
    from lakehouse.runtime import maven

    with _one_process():
        for left in folder.glob("*/.*.jar.*"):  # of a process that was killed
            left.unlink()
        by_hash: dict[str, list[LockedJar]] = {}  # both sets may hold a jar: it comes once
        for jar in absent(locked, folder):  # another process may have fetched some while we waited
            by_hash.setdefault(jar.sha256, []).append(jar)
        if not by_hash:
            return
        # The largest first, so that nobody waits for one large jar at the end.
        wanted = sorted(by_hash.values(), key=lambda same: -same[0].size)
        with (
            maven.context(cache_folder() / "maven", [maven.user_repository()]) as context,
            maven.progress([same[0].size for same in wanted]) as advance,
            ThreadPoolExecutor(PARALLEL) as pool,
        ):
            fetching = [pool.submit(_fetch_one, context, same, folder) for same in wanted]
            try:
                for one in as_completed(fetching):
                    advance(one.result())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _fetch_one(context: MavenContext, same: list[LockedJar], folder: Path) -> int:
    """Fetch a jar once for all sets that hold it; return its size in bytes."""
    from lakehouse.runtime import maven

    jar = same[0]
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    ours = context.repo_cache / artifact.component.path_prefix / artifact.filename
    partials = [one.path(folder).with_name(f".{jar.name}.{os.getpid()}") for one in same]
    try:
        for partial in partials:
            partial.parent.mkdir(parents=True, exist_ok=True)
        # 1. From our cache or the user's, if they have this very jar; else from a repository.
        with maven.one_line_errors(jar.name):
            source = artifact.resolve()
            if maven.sha256(source) != jar.sha256:  # another build in the user's cache, or a file cut short in ours
                ours.unlink(missing_ok=True)
                source = context.resolver.download(artifact) or ours
        found = maven.sha256(source)
        if found != jar.sha256:
            raise MissingDependencyError(
                f"{jar.name} as downloaded has sha256 {found[:16]}… and {source.stat().st_size} bytes",
                f"sha256 {jar.sha256[:16]}… and {jar.size} bytes (lakehouse/runtime/jars.lock)",
                "try again; if it stays, the Maven mirror serves another file",
            )
        # 2. Under its name in one step, so that no reader ever sees a part of it.
        for partial, one in zip(partials, same, strict=True):
            shutil.copyfile(source, partial)
            partial.replace(one.path(folder))
    finally:
        for left in (*partials, ours):
            left.unlink(missing_ok=True)
    return jar.size


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _artifact_name(jar: str) -> str:
    """`slf4j-api-2.0.17.jar` → `slf4j-api`: up to the first part that begins with a digit."""
    parts = jar.removesuffix(".jar").split("-")
    return "-".join(part for index, part in enumerate(parts) if not any(p[:1].isdigit() for p in parts[1 : index + 1]))


def resolve(jar_set: JarSet) -> list[LockedJar]:
    """Download the jars that the set's COORDINATES need beside pyspark's own, and return them; takes about a minute."""
    from lakehouse.runtime import maven

    provided = {_artifact_name(jar.name) for jar in spark_home().glob("jars/*.jar")} if jar_set == "spark" else set()
    locked: dict[str, LockedJar] = {}
    for group in COORDINATES[jar_set]:
        with maven.one_line_errors(" + ".join(group)), maven.context(cache_folder() / "maven") as context:
            for artifact in maven.graph(group, context):
                if artifact.artifactId in provided:
                    continue
                path = artifact.resolve()
                coordinate = (artifact.groupId, artifact.artifactId, artifact.version)
                jar = LockedJar(jar_set, maven.sha256(path), path.stat().st_size, *coordinate)
                if path.name != jar.name or locked.setdefault(jar.artifact, jar) != jar:
                    raise MissingDependencyError(
                        f"{jar_set}: {path.name} beside {locked[jar.artifact].name}", "one jar"
                    )
    return sorted(locked.values(), key=lambda jar: jar.name)


def write_lock() -> int:
    """Download the jars of both sets, rewrite jars.lock, and return their number. Raises MissingDependencyError."""
    with _one_process():
        entries = [jar for jar_set in get_args(JarSet) for jar in resolve(jar_set)]
    lines = [f"# Written by `{RELOCK}`. One jar a line: set, sha256, bytes, Maven coordinate."]
    lines += [f"{jar.jar_set} {jar.sha256} {jar.size} {jar.group}:{jar.artifact}:{jar.version}" for jar in entries]
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(entries)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m lakehouse.runtime.jars` with its arguments (default: sys.argv's) and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.runtime.jars", description="Fetch and verify the JVM jars."
    )
    parser.add_argument("--lock", action="store_true", help="resolve the coordinates anew and rewrite jars.lock")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="fill FOLDER/spark and FOLDER/broker")
    options = parser.parse_args(arguments)
    try:
        if options.lock:
            print(f"{LOCK}: {write_lock()} jars")
            return 0
        if options.to is not None:
            fetch(read_lock(), options.to.absolute())
        else:
            jars(*get_args(JarSet))
        print(f"jars are in {options.to or jars_folder()}")
    except LakehouseError as error:
        print(f"lakehouse: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
