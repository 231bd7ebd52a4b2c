"""A rebuild of Silver on real executors, in processes of their own: it comes to what a stream in one process made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES, SILVER_QUARANTINE, SILVER_TRADES
from tests.support.demo_tools import environment
from tests.support.messages import NEW_YEAR
from tests.support.random_bronze import Bronze, expected, filled
from tests.support.rows import batch_row, empty_lake
from tests.support.silver_stream import Stream, rows, unnamed

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.timeout(600)]


def rebuilt(settings: Settings, master: str, batch_units: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.rebuild_probe", str(batch_units)],
        env=environment(LAKEHOUSE_HOME=str(settings.home), LAKEHOUSE_SPARK_MASTER=master),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("master", ["local-cluster[2,1,1024]", "local[2]"])
def test_a_rebuild_on_executors_finds_nothing_to_change(tmp_path: Path, master: str) -> None:
    """Repeats and conflicts lie across units of a batch and across batches."""
    bronze = Bronze(empty_lake(tmp_path))
    settings = bronze.settings
    filled(bronze, 7)
    stream = Stream(settings)
    for version in (5, bronze.version()):
        stream.batch(version)
    end = {"version": bronze.version(), "complete": True}
    table_io.append_rows(settings, OPS_BATCHES, [batch_row("silver", 1, at=NEW_YEAR, source_end=end)])
    kept, refused = expected(bronze)
    assert len(rows(settings, SILVER_TRADES)) == len(kept)
    seen = rebuilt(settings, master, batch_units=4)
    assert seen["identical"]
    conflicts = sum(row["rule"] == "conflict" for row in rows(settings, SILVER_QUARANTINE))
    assert seen["rules"]["conflict"] == conflicts == sum(rule == "conflict" for rule in refused.values())
    several = [job for job in seen["jobs"] if job["work"] == "refine" and job["units"] > 1]
    assert any(job["told"] for job in seen["jobs"]), "no two units of a batch had the same id"
    assert {process for job in several for process in job["processes"]}.isdisjoint({seen["driver"]})
    assert any(len(job["processes"]) == 2 for job in several)
    assert {job["work"] for job in seen["jobs"]} == {"refine", "print_files"}
    assert unnamed(settings) == []
