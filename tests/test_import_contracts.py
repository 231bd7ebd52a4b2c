"""The import contracts about venues, which name none of them, refuse what they are there to refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lakehouse", "assets", "jobs", "sensors")

SHARED = "What all venues share"
APART = "A venue's package knows no other venue"
SIMULATED = "A simulated venue's package knows no other one"
OUTSIDE = "Nothing outside imports a venue's modules"
JUDGE = "Nothing but the demo and the simulator's own command"
PURE = "Parsers and the order of ids are pure"
NO_JVM = "What reads the lake needs no JVM"
OPTIONAL = "Optional libraries are loaded by name"
NO_DAGSTER = "The library knows nothing of Dagster"

#: File → the line that is added to it, and the contract that this breaks.
BREACHES = {
    "repair knows the simulator": ("lakehouse/repair/run.py", "import lakehouse.simulator.options", JUDGE),
    "a sensor knows the simulator": ("sensors/moves.py", "import lakehouse.simulator.record", JUDGE),
    "a parser opens a socket": ("lakehouse/exchanges/model.py", "import socket", PURE),
    "a parser reads Arrow": ("lakehouse/exchanges/kraken/stream.py", "import pyarrow", PURE),
    "the client needs Spark": ("lakehouse/client/scan.py", "import pyspark", NO_JVM),
    "status needs a stream": ("lakehouse/status/snapshot.py", "import lakehouse.streams.runner", NO_JVM),
    "the product needs an extra": ("lakehouse/client/scan.py", "import duckdb", OPTIONAL),
    "the library knows Dagster's Postgres": ("lakehouse/lake/lag.py", "import dagster_postgres", NO_DAGSTER),
    "a venue imports another": (
        "lakehouse/exchanges/kraken/names.py",
        "import lakehouse.exchanges.coinbase.names",
        APART,
    ),
    "a venue imports the registry": (
        "lakehouse/exchanges/coinbase/names.py",
        "import lakehouse.exchanges.registry",
        APART,
    ),
    "the registry imports a venue": (
        "lakehouse/exchanges/registry.py",
        "import lakehouse.exchanges.kraken.stream",
        APART,
    ),
    "a shared module imports a venue": (
        "lakehouse/exchanges/json_fields.py",
        "import lakehouse.exchanges.kraken.names",
        APART,
    ),
    "a venue imports a shared module without a place": (
        "lakehouse/exchanges/kraken/names.py",
        "import lakehouse.exchanges.helpers",
        APART,
    ),
    "a shared module imports one above it": (
        "lakehouse/exchanges/model.py",
        "import lakehouse.exchanges.history",
        SHARED,
    ),
    "a simulated venue imports another": (
        "lakehouse/simulator/venues/kraken/rest.py",
        "import lakehouse.simulator.venues.coinbase.rest",
        SIMULATED,
    ),
    "a simulated venue imports the registry": (
        "lakehouse/simulator/venues/kraken/rest.py",
        "import lakehouse.simulator.venues.registry",
        SIMULATED,
    ),
    "the model of simulated venues imports one": (
        "lakehouse/simulator/venues/model.py",
        "import lakehouse.simulator.venues.kraken.rest",
        SIMULATED,
    ),
    "ingest imports a venue": (
        "lakehouse/ingest/feed.py",
        "import lakehouse.exchanges.kraken.names",
        OUTSIDE,
    ),
    "the server imports a simulated venue": (
        "lakehouse/simulator/server.py",
        "import lakehouse.simulator.venues.kraken.rest",
        OUTSIDE,
    ),
}


def broken(folder: Path) -> str:
    """Every contract that is broken, as lint-imports prints them on one line each."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "300"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    assert "Contracts: " in ran.stdout, ran.stdout
    verdicts = ran.stdout.partition("\nContracts: ")[0]
    return "\n".join(line for line in verdicts.splitlines() if " BROKEN" in line)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "lakehouse/exchanges/helpers.py").write_text('"""No contract names it."""\n', encoding="utf-8")
    return tmp_path


def test_an_intact_copy_breaks_none(copy: Path) -> None:
    assert broken(copy) == ""


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_refused(copy: Path, breach: str) -> None:
    name, line, contract = BREACHES[breach]
    with (copy / name).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert contract in broken(copy)
