"""Every example of the documents runs, in a process of its own, as a reader would run it.

Commands that would start, build or change something do not run here: `NOT_RUN` has the reasons. Their names, options
and files must be there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.cli import build_app
from lakehouse.runtime.jars import spark_jars
from lakehouse.runtime.java import find_java
from lakehouse.settings import Settings
from tests.support import documents
from tests.support.api_server import running
from tests.support.documents import ROOT, Example
from tests.support.market_lake import MarketLake
from tests.support.stream_world import World

PYTHON = tuple(one for one in documents.python() if "websockets" not in one.text)
WEBSOCKETS = tuple(one for one in documents.python() if "websockets" in one.text)
COMMANDS = tuple(documents.commands())
#: The address in the documents; the tests' server has another.
API = "http://127.0.0.1:8000"
#: Words of an example that stand for something else.
PLACEHOLDER = re.compile(r"<\w+>|\bFILE\b|\bPORT\b|\bFOLDER\b")

#: Beginning of commands that do not run here → why.
NOT_RUN = {
    ".venv/bin/dagster ": "needs a running demo; tests/dagster launches the jobs",
    ".venv/bin/lakehouse audit": "needs Kafka; tests/audit runs it on lakes, tests/local_stack beside a demo",
    ".venv/bin/lakehouse check": "needs Kafka; tests/quality and tests/cli run it",
    ".venv/bin/lakehouse demo": "starts everything; tests/local_stack runs it",
    ".venv/bin/lakehouse doctor": "its verdict is the machine's; tests/cli runs it",
    ".venv/bin/lakehouse <command>": "for a command that is yet to be written",
    ".venv/bin/python -m benchmarks": "measures for minutes to hours; tests/benchmarks tries the parts",
    ".venv/bin/python -m pytest": "these tests",
    ".venv/bin/python -m tests.": "kills and faults, for minutes to hours",
    "LAKEHOUSE_<NAME>=": "a refusal, which tests/test_settings.py has",
    "RECORD_PUBLIC_NAMES=": "writes the record of names, which tests/test_public_names.py reads",
    "cp ": "for compose",
    "curl -s http://127.0.0.1:PORT": "needs a running ingest; tests/ingest/test_metrics.py asks one",
    "docker ": "needs a container engine; docker/test.sh runs the image",
    "eval ": "needs a running demo; tests/local_stack asks for the same variables",
    "export ": "an address of the reader's own database",
    "lakehouse rebuild ": "changes the lake; tests/rebuild runs it",
    "lakehouse sink postgres": "needs a PostgreSQL server; tests/sinks starts one",
    "lakehouse sink redis": "needs a Redis server; tests/sinks starts one",
    "lakehouse tail ": "needs Kafka; tests/broker/test_newest.py",
    "lakehouse topics": "needs Kafka; tests/broker/test_newest.py",
    "make ": "installs, builds or tests everything; .ci/run runs `check`, `test` and `test-slow`",
    "pip ": "installs from a registry; requirements.lock has the same",
}


def why_not(command: Example) -> str | None:
    return next((reason for begin, reason in NOT_RUN.items() if command.text.startswith(begin)), None)


HERE = [one for one in COMMANDS if why_not(one) is None]
ELSEWHERE = [one for one in COMMANDS if why_not(one) is not None]


def names(examples: list[Example] | tuple[Example, ...]) -> list[str]:
    return [f"{one.page} {number}" for number, one in enumerate(examples)]


@pytest.fixture(scope="module")
def folder(market: MarketLake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the lake where `make demo` leaves it."""
    place = tmp_path_factory.mktemp("reader")
    (place / ".lakehouse").mkdir()
    (place / ".lakehouse" / "demo").symlink_to(market.settings.home)
    return place


@pytest.fixture(scope="module")
def api(market: MarketLake) -> Iterator[str]:
    with running(market.settings) as url:
        yield url


def test_there_are_examples() -> None:
    data = "reading-the-data.md"
    assert len([one for one in PYTHON if one.page == data]) >= 8
    for word in ("polars", "pandas", "duckdb", "open_spark", "httpx"):
        assert any(word in one.text for one in PYTHON if one.page == data), word
    for program in ("lakehouse query", "lakehouse export", "curl"):
        assert any(one.text.startswith(program) for one in HERE if one.page == data), program
        assert any(one.text.removeprefix(".venv/bin/").startswith(program) for one in HERE if one.page == "README.md")


def test_each_reason_is_for_some_command() -> None:
    unused = [begin for begin in NOT_RUN if not any(one.text.startswith(begin) for one in COMMANDS)]
    assert unused == []


@pytest.mark.parametrize(
    "example",
    [pytest.param(one, marks=[pytest.mark.spark, pytest.mark.slow] if "spark" in one.text else []) for one in PYTHON],
    ids=names(PYTHON),
)
def test_python(folder: Path, api: str, example: Example) -> None:
    code = example.text.replace(API, api)
    environment = dict(os.environ)
    if "/FOLDER/" in code:  # a Spark session of the reader's own
        code = code.replace("/FOLDER/", f"{spark_jars()[0].parent}/")
        environment["JAVA_HOME"] = str(find_java(for_spark=True).parent.parent)
    before = set(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert set(folder.iterdir()) == before


@pytest.mark.kafka
def test_websocket(kafka_settings: Settings) -> None:
    """Both read the trades of their five minutes, one a second, and end; one prints them, one counts them."""
    world = World(kafka_settings)
    world.send(*range(400))
    world.land()
    with running(kafka_settings) as url:
        printed = []
        for example in WEBSOCKETS:
            code = example.text.replace(API.replace("http", "ws"), url.replace("http", "ws"))
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout.splitlines())
    (every, (counted,)) = printed
    assert [line.split()[0] for line in every] == [str(number) for number in range(300)]
    assert counted == "300 trades, the last 299"


@pytest.mark.parametrize("example", HERE, ids=names(HERE))
def test_command(folder: Path, api: str, example: Example) -> None:
    words = shlex.split(example.text.replace(API, api), comments=True)
    if words[0] == "curl":
        if shutil.which("curl") is None:
            pytest.skip("no curl")
        words.append("--fail-with-body")
    else:
        program = Path(words[0]).name
        words[:1] = {"lakehouse": [sys.executable, "-m", "lakehouse"], "python": [sys.executable]}[program]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    out = re.search(r"--out(?:put)? (\S+)", example.text)
    assert done.stdout.strip() if out is None else (folder / out[1]).exists()


@pytest.mark.parametrize("example", ELSEWHERE, ids=names(ELSEWHERE))
def test_what_does_not_run_here_names_what_there_is(example: Example) -> None:
    words = shlex.split(example.text, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif Path(words[0]).name == "lakehouse" and not PLACEHOLDER.fullmatch(words[1]):
        asked = CliRunner().invoke(build_app(), [*words[1:], "--help"])
        assert asked.exit_code == 0, asked.output
    elif "-m" in words and words[words.index("-m") + 1] != "pytest":
        assert importlib.util.find_spec(words[words.index("-m") + 1]) is not None
    else:
        files = [one.partition("::")[0] for one in words if "/" in one and "://" not in one and " " not in one]
        missing = [one for one in files if not PLACEHOLDER.search(one) and not (ROOT / one).exists()]
        assert [one for one in missing if not one.startswith((".venv", "docker/.env"))] == []
