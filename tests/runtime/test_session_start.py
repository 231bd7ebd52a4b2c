"""The start of a session's JVM: beside other work, once, in one line if it fails; and that the JVM ends with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lakehouse.runtime.class_archive import class_path
from tests.conftest import SettingsFactory

#: Begins each script: it runs in a process of its own, as that of the tests has its session already.
HEAD = """
import os, sys, time
import psutil
from lakehouse.errors import LakehouseError
from lakehouse.runtime import spark_session
from lakehouse.runtime.spark_session import JVM_MARK, build_session, expect_session
from lakehouse.settings import load_settings

def jvms():
    return [one for one in psutil.Process().children() if JVM_MARK in one.cmdline()]

def first_jvm():
    while not jvms():
        time.sleep(0.02)
    return jvms()[0]

settings = load_settings()
"""


@pytest.fixture
def environment(settings_factory: SettingsFactory, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "temporary").mkdir()
    return os.environ | settings_factory().environment() | {"TMPDIR": str(tmp_path / "temporary")}


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HEAD + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


@contextmanager
def started(code: str, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A process of its own group that has printed the id of its JVM."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, psutil.Process(int(process.stdout.readline()))
        finally:
            process.kill()


def gone(process: psutil.Process, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def left_behind(environment: dict[str, str]) -> list[str]:
    """Folders in which pyspark, Spark or we kept something; `hsperfdata` and Spark's copies of jars are Java's."""
    return [one.name for one in Path(environment["TMPDIR"]).iterdir() if not one.name.startswith("hsperfdata")]


def test_class_path_has_spark_and_the_connectors_once_each() -> None:
    names = [jar.name for jar in class_path()]
    assert len(names) == len(set(names))
    for wanted in ("spark-core_", "spark-sql_", "spark-sql-kafka", "delta-spark_"):
        assert any(name.startswith(wanted) for name in names), wanted
    assert all(jar.exists() for jar in class_path())


def test_a_session_that_was_expected_is_taken_and_no_child_takes_its_jvm(environment: dict[str, str]) -> None:
    code = """
expect_session(settings)
expect_session(settings)
jvm = first_jvm()
spark = build_session(settings, bulk=True)
assert build_session(settings) is spark
expect_session(settings)
assert spark.range(3).count() == 3
assert spark.conf.get("spark.sql.codegen.wholeStage") == "false", "of the expected session, which is a stream's"
assert jvms() == [jvm], jvms()
words = jvm.cmdline()
assert "-Xmx1g" in words and "-XX:+UseSerialGC" in words, words
assert not [name for name in os.environ if "GATEWAY" in name]
print("taken")
"""
    result = run(code, environment)
    assert result.stdout.strip() == "taken", result.stderr
    assert left_behind(environment) == []


def test_an_option_with_a_space_arrives_whole(environment: dict[str, str]) -> None:
    code = """
build_session(settings, java_options=("-Dlakehouse.test=two words",))
assert "-Dlakehouse.test=two words" in jvms()[0].cmdline(), jvms()[0].cmdline()
print("whole")
"""
    result = run(code, environment)
    assert result.stdout.strip() == "whole", result.stderr


@pytest.mark.parametrize(
    ("option", "seconds", "found"),
    [
        ("-agentlib:none", 60, "Java ended at its start"),
        ("-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:0", 5, "Java did not answer in time"),
    ],
)
def test_a_jvm_that_does_not_come_up_is_one_clear_error(
    environment: dict[str, str], option: str, seconds: float, found: str
) -> None:
    code = f"""
spark_session.START_SECONDS = {seconds}
try:
    build_session(settings, java_options=({option!r},))
except LakehouseError as error:
    print("ours", type(error).__name__, error.exit_code, error)
assert jvms() == []
spark_session.START_SECONDS = 180
print("ours", build_session(settings).range(3).count())
"""
    result = run(code, environment)
    lines = [line.removeprefix("ours ") for line in result.stdout.splitlines() if line.startswith("ours ")]
    assert len(lines) == 2, result.stderr
    error, rows = lines
    assert error.startswith(f"RetriableError 75 {found}; expected a JVM with a Spark session; look at what it said")
    assert rows == "3", "the next attempt may succeed"
    assert "Traceback" not in result.stderr
    assert "\tat " not in result.stderr
    assert left_behind(environment) == []


def test_a_jvm_killed_before_there_is_a_session_is_one_clear_error(environment: dict[str, str]) -> None:
    code = """
import threading
expect_session(settings)
jvm = first_jvm()
threading.Timer(1.0, jvm.kill).start()
try:
    build_session(settings)
    print("RetriableError Java was quicker than the test")
except LakehouseError as error:
    print(type(error).__name__, error)
"""
    result = run(code, environment)
    assert result.stdout.startswith("RetriableError Java "), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("when", ["", "first_jvm()", "first_jvm(); time.sleep(1)"])
@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise ValueError"])
def test_a_jvm_that_gets_no_session_does_not_outlive_its_process(
    environment: dict[str, str], when: str, ending: str
) -> None:
    """The start fails before there is a session, as it does if the broker is down."""
    code = f"""
expect_session(settings)
{when}
print(*[one.pid for one in psutil.Process().children()], flush=True)
{ending}
"""
    result = run(code, environment)
    assert not [pid for pid in result.stdout.split() if psutil.pid_exists(int(pid))], result.stderr
    assert result.stderr.count("Traceback") == (ending == "raise ValueError")
    assert "\tat " not in result.stderr
    assert left_behind(environment) == []


@pytest.mark.parametrize("has_session", [False, True])
def test_a_jvm_ends_when_its_process_is_killed(environment: dict[str, str], has_session: bool) -> None:
    code = f"""
expect_session(settings)
{"build_session(settings)" if has_session else ""}
print(first_jvm().pid, flush=True)
time.sleep(100)
"""
    with started(code, environment) as (process, jvm):
        assert not gone(jvm, 0.5)
        process.kill()
        assert gone(jvm)


def test_ctrl_c_leaves_the_jvm_to_those_who_end_its_queries(environment: dict[str, str]) -> None:
    code = """
spark = build_session(settings)
print(first_jvm().pid, flush=True)
try:
    time.sleep(100)
except KeyboardInterrupt:
    time.sleep(2)
    print(spark.range(3).count(), flush=True)
"""
    with started(code, environment) as (process, jvm):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "3\n"
        assert process.wait(30) == 0
        assert gone(jvm)
