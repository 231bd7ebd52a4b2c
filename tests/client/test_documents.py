"""Every example of docs/reading-the-data.md runs, in a process of its own, as a reader would run it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.market_lake import MarketLake

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reading-the-data.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
COMMANDS = re.findall(r"^\$ (lakehouse .+)$", DOCUMENT, re.MULTILINE)
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


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(folder: Path, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PYTHON[number]], cwd=folder, capture_output=True, text=True, timeout=120
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
