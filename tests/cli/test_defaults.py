"""Commands that name no lakehouse: all look at the same one. And what a misspelt word gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.errors import SettingError
from lakehouse.local_stack import home_folder
from lakehouse.local_stack.processes import MARKER
from lakehouse.settings import load_settings
from tests.status.test_snapshot import lakehouse
from tests.support.rows import empty_lake


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An older `demo` and a newer `live`, both once started."""
    for kind, moment in (("demo", 1), ("live", 2)):
        lake = empty_lake(tmp_path / ".lakehouse" / kind)
        home_folder.save_environment(lake.home, lake.environment())
        for log in lake.home.glob("lake/*/*/_delta_log"):
            os.utime(log, (moment, moment))
    return tmp_path


@pytest.mark.parametrize("command", ["status", "env", "doctor", "check", "audit"])
@pytest.mark.parametrize("runs", [False, True])
def test_the_running_one_else_the_newest(two: Path, command: str, runs: bool) -> None:
    demo = two / ".lakehouse" / "demo"
    environment = {**os.environ, MARKER: str(demo)}
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    if not runs:
        process.communicate(b"\n", timeout=20)
    try:
        done = lakehouse(two, command)
    finally:
        process.communicate(b"\n" if runs else None, timeout=20)
    named, other = ("demo", "live") if runs else ("live", "demo")
    said = done.stdout + done.stderr
    assert f".lakehouse/{named}" in said
    assert f".lakehouse/{other}" not in said


def test_env_can_be_evaluated_and_says_whether_it_runs(two: Path) -> None:
    done = lakehouse(two, "env")
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    assert done.stderr == "lakehouse: .lakehouse/live, which does not run\n"


@pytest.mark.parametrize(
    "trigger",
    [
        *("soon", "2", "0 seconds", "-1 seconds", "2 fortnights", "seconds", ""),
        *("99999999999999 hours", "8761 hours", "31536000001 milliseconds", f"{'9' * 5_000} seconds"),
    ],
)
def test_a_trigger_that_spark_would_refuse(trigger: str) -> None:
    with pytest.raises(
        SettingError, match=r"^setting trigger \(LAKEHOUSE_TRIGGER\): .*expected available-now, or an in"
    ):
        load_settings(trigger=trigger)


@pytest.mark.parametrize(
    ("trigger", "kept"),
    [
        *(("3 seconds", "3 seconds"), (" 1  Minute ", "1 minute"), ("Available-Now", "available-now")),
        *(("8760 hours", "8760 hours"), ("31536000000 milliseconds", "31536000000 milliseconds")),
    ],
)
def test_a_trigger_that_is_taken(trigger: str, kept: str) -> None:
    assert load_settings(trigger=trigger).trigger == kept


@pytest.mark.parametrize(
    "memory", ["", "1", "64m", "479m", "471859200", "503316479", "1 g", "1gb", "-1g", "0", f"{'9' * 5_000}"]
)
def test_a_heap_that_spark_would_refuse(memory: str) -> None:
    with pytest.raises(SettingError, match=r"^setting spark_driver_memory .*480m at least"):
        load_settings(spark_driver_memory=memory)


@pytest.mark.parametrize("memory", ["480m", "1g", "2G", "491520k", "503316480", "1t"])
def test_a_heap_that_is_taken(memory: str) -> None:
    assert load_settings(spark_driver_memory=memory).spark_driver_memory == memory.lower()


@pytest.mark.parametrize("command", ["demo", "up", "stream all"])
@pytest.mark.parametrize("trigger", ["soon", "99999999999999 hours"])
def test_a_wrong_trigger_is_one_line_and_starts_nothing(tmp_path: Path, command: str, trigger: str) -> None:
    done = lakehouse(tmp_path, *command.split(), "--trigger", trigger)
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1
    assert f"setting trigger (LAKEHOUSE_TRIGGER): '{trigger}'; expected available-now" in done.stderr
    assert not (tmp_path / ".lakehouse").exists()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LAKEHOUSE_TRIGER", "did you mean LAKEHOUSE_TRIGGER? "),
        ("LAKEHOUSE_SYMBOL", "did you mean LAKEHOUSE_SYMBOLS? "),
        ("lakehouse_venue", "did you mean LAKEHOUSE_VENUES? "),
        ("LAKEHOUSE_XYZZY", ""),
    ],
)
def test_a_misspelt_variable_is_not_ignored(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"unknown setting {name}; expected ")
    assert f"; {meant}Correct or unset it" in str(caught.value)


def test_our_other_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL", MARKER):
        monkeypatch.setenv(name, "/somewhere")
    load_settings()


def test_the_version(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, "lakehouse 0.1.0\n")
