"""schemathesis over the OpenAPI: whatever its schema allows or forbids, the server answers as it says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.conftest import UNLIMITED
from tests.support.api_server import running
from tests.support.market_lake import MarketLake

#: Requests of a valid form may still be refused: no schema says which cursor is one of ours, or that an end is not
#: before its start.
LEFT_OUT = "positive_data_acceptance"
#: It does not count "414 URI Too Long" as a refusal, so that long parameters must reach the check of their length.
LIMITS = dataclasses.replace(UNLIMITED, query_characters=1 << 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_failure(market: MarketLake, tmp_path: Path) -> None:
    with running(market.settings, LIMITS) as url:
        command = [
            str(Path(sys.executable).with_name("st")),
            "run",
            f"{url}/openapi.json",
            "--exclude-checks",
            LEFT_OUT,
        ]
        done = subprocess.run(
            [*command, "--max-examples", "100", "--no-color"], cwd=tmp_path, capture_output=True, text=True, timeout=560
        )
    assert done.returncode == 0, (done.stdout[-5000:], done.stderr[-2000:])
    assert "9 selected / 9 total" in done.stdout
