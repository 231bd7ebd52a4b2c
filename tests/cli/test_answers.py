"""Commands about a lakehouse that does not exist yet or has stopped: each names it and answers at once."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lakehouse.cli import homes, main
from lakehouse.errors import BrokerUnavailableError
from lakehouse.local_stack.processes import MARKER
from lakehouse.settings import load_settings
from lakehouse.status.snapshot import Snapshot, TableStatus, collect
from tests.status.test_snapshot import lakehouse, shown
from tests.support.rows import empty_lake


@contextmanager
def running(home: Path) -> Iterator[None]:
    environment = {**os.environ, MARKER: str(home.absolute())}
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.communicate(b"\n", timeout=20)


def test_a_stopped_broker_has_run(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "demo")
    with pytest.raises(BrokerUnavailableError, match="no embedded broker has run in"):
        settings.bootstrap()
    (settings.broker_home / "data").mkdir(parents=True)
    with pytest.raises(BrokerUnavailableError, match=r"the embedded broker of .*demo is stopped"):
        settings.bootstrap()
    broker = collect(settings).broker
    assert "is stopped" in broker
    assert "has run" not in broker


def test_rotate_means_the_lakehouse_that_starts(tmp_path: Path) -> None:
    empty_lake(tmp_path / ".lakehouse" / "live")
    demo = tmp_path / ".lakehouse" / "demo"
    demo.mkdir()
    with running(demo):
        done = lakehouse(tmp_path, "rotate")
        assert homes.default_home(tmp_path / ".lakehouse") == demo
    assert done.returncode == 75
    assert "no ingest has run in .lakehouse/demo yet" in done.stderr
    assert not list(demo.iterdir())
    assert homes.default_home(tmp_path / ".lakehouse").name == "live"


@pytest.mark.parametrize("options", [(), ("--home", "elsewhere")])
def test_rotate_with_nothing_there_ends_at_once_and_leaves_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    begun = time.monotonic()
    done = lakehouse(tmp_path, "rotate", *options)
    assert time.monotonic() - begun < 30, "it would wait 45 s for an answer"
    assert (done.returncode, done.stderr.count("\n")) == (75, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["repair", "replay", "rotate", "rebuild gold", "rebuild silver", "status"])
def test_every_help_says_the_same_default(tmp_path: Path, command: str) -> None:
    said = " ".join(lakehouse(tmp_path, *command.split(), "--help").stdout.replace("│", " ").split())
    assert "the one that runs here, else the newest" in said


@pytest.mark.parametrize("options", [("--unavailable",), ()])
def test_repair_names_its_lakehouse(tmp_path: Path, options: tuple[str, ...]) -> None:
    empty_lake(tmp_path / ".lakehouse" / "live")
    done = lakehouse(tmp_path, "repair", *options)
    assert (done.returncode, done.stdout) == (0, "no open gap to repair\n")
    assert done.stderr == "lakehouse: .lakehouse/live\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["status", "--help"]])
def test_version_and_help_need_no_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_TRIGER", "1")
    monkeypatch.setattr(sys, "argv", ["lakehouse", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "akehouse" in capsys.readouterr().out


@pytest.mark.parametrize(("behind", "words"), [(0, "0 messages"), (1, "1 message "), (1_200, "1,200 messages")])
def test_one_message_is_one(behind: int, words: str) -> None:
    now = dt.datetime.now(dt.UTC)
    table = TableStatus("silver/trades", 3, 1, now, behind)
    assert words in shown(Snapshot("demo", True, now, (table,), (), (), ""))


def test_other_commands_still_refuse_a_misspelt_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_TRIGER", "1")
    monkeypatch.setattr(sys, "argv", ["lakehouse", "status"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 64
    assert "did you mean LAKEHOUSE_TRIGGER" in capsys.readouterr().err
    monkeypatch.delenv("LAKEHOUSE_TRIGER")
    load_settings()
