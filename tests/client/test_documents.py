"""Every example of docs/reading-the-data.md runs, in a process of its own, as a reader would run it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import running
from tests.support.market_lake import MarketLake

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reading-the-data.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
COMMANDS = re.findall(r"^\$ (lakehouse .+)$", DOCUMENT, re.MULTILINE)
CURLS = re.findall(r"^\$ (curl .+)$", DOCUMENT, re.MULTILINE)
#: The address in the document; the tests' server has another.
API = "127.0.0.1:8000"
#: They need a running broker, and have tests of their own (tests/broker/test_newest.py).
OF_KAFKA = ("lakehouse topics", "lakehouse tail")


@pytest.fixture(scope="module")
def folder(market: MarketLake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the lake where `make demo` leaves it."""
    place = tmp_path_factory.mktemp("reader")
    (place / ".lakehouse").mkdir()
    (place / ".lakehouse" / "demo").symlink_to(market.settings.home)
    return place


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 6
    assert len(COMMANDS) >= 5
    assert len(CURLS) >= 6


@pytest.fixture(scope="module")
def api(market: MarketLake) -> Iterator[str]:
    with running(market.settings) as url:
        yield url.removeprefix("http://")


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(folder: Path, api: str, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PYTHON[number].replace(API, api)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("command", [one for one in COMMANDS if not one.startswith(OF_KAFKA)])
def test_command(folder: Path, command: str) -> None:
    words = [sys.executable, "-m", "lakehouse", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "--out" in command
    out = re.search(r"--out (\S+)", command)
    assert out is None or (folder / out[1]).exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("command", CURLS)
def test_curl(folder: Path, api: str, command: str) -> None:
    words = [*shlex.split(command.replace(API, api)), "--fail-with-body"]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    out = re.search(r"--output (\S+)", command)
    assert done.stdout.strip() if out is None else (folder / out[1]).stat().st_size
