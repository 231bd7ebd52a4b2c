"""The machine on which a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.home import ROOT
from lakehouse.runtime.jars import read_lock
from lakehouse.runtime.java import find_java, probe

PACKAGES = ("pyspark", "delta-spark", "deltalake", "polars", "confluent-kafka")
#: The environment that the Makefile makes for Quix Streams.
QUIX_PYTHON = ROOT / ".venv" / "quix" / "bin" / "python"


@cache
def machine() -> dict[str, str | int | float]:
    """Cores, memory in GiB, processor, system, versions, and the commit that was measured."""
    java = probe(find_java(for_spark=True))
    facts: dict[str, str | int | float] = {
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "processor": _processor(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "java": java.version if java else "unknown",
        "kafka": next(jar.version for jar in read_lock() if jar.artifact == "kafka_2.13"),
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    facts["quixstreams"] = _quix_version()
    return facts


def machine_line() -> str:
    """The same as one line for people."""
    facts = machine()
    names = ("python", "java", "kafka", *PACKAGES, "quixstreams")
    return (
        f"{facts['cores']} cores ({facts['processor']}), {facts['memory_gib']} GiB, {facts['system']}; commit "
        f"{facts['commit']}; load before {facts['load_before']}; " + ", ".join(f"{n} {facts[n]}" for n in names)
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """Short hash of the commit, with `+` if the tree has changes."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=9", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _quix_version() -> str:
    code = "from importlib.metadata import version; print(version('quixstreams'))"
    try:
        done = subprocess.run([str(QUIX_PYTHON), "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return "not installed"
    return done.stdout.strip() or "not installed"
