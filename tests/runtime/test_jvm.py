"""A JVM that is started past `spark-submit`: what it is given, and what is said if it does not come up."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lakehouse.errors import RetriableError
from lakehouse.runtime.java import find_java
from lakehouse.runtime.jvm import Jvm, class_path
from tests.conftest import SettingsFactory


def test_class_path_has_spark_and_delta_and_no_machine_learning() -> None:
    names = [jar.name for jar in class_path()]
    assert len(names) == len(set(names))
    for wanted in ("spark-core_", "spark-sql_", "spark-sql-kafka", "delta-spark_"):
        assert any(name.startswith(wanted) for name in names), wanted
    assert not any(name.startswith("spark-mllib") for name in names)
    assert all(jar.exists() for jar in class_path())


def test_a_jvm_answers_and_ends_with_its_pipe() -> None:
    jvm = Jvm(find_java(for_spark=True), "256m", ("-XX:TieredStopAtLevel=1",))
    try:
        offer = jvm.offer()
        assert int(offer["PYSPARK_GATEWAY_PORT"]) > 0
        assert len(offer["PYSPARK_GATEWAY_SECRET"]) >= 32
        assert jvm.process.poll() is None
    finally:
        jvm.end(30)
    assert jvm.process.returncode is not None


def test_java_that_ends_at_once_is_one_clear_error(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 7\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(RetriableError, match="Java ended with exit code 7 at its start; expected a JVM"):
        Jvm(java, "1g", ()).offer()


def test_a_session_takes_the_jvm_that_was_started_for_it(settings_factory: SettingsFactory) -> None:
    """In a process of its own: that of the tests has its session already."""
    code = """
from lakehouse.settings import load_settings
from lakehouse.runtime import spark_session
settings = load_settings()
spark_session.expect_session(settings)
(jvm,) = spark_session._JVMS
spark_session.expect_session(settings)
spark = spark_session.build_session(settings)
assert spark_session._JVMS == [jvm]
assert spark.range(3).count() == 3
spark_session.expect_session(settings)
spark_session.end_session(60)
assert jvm.process.returncode is not None
assert spark_session._JVMS == []
print("taken")
"""
    environment = os.environ | settings_factory().environment()
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "taken", run.stderr


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise ValueError"])
def test_a_jvm_that_gets_no_session_does_not_outlive_its_process(
    settings_factory: SettingsFactory, tmp_path: Path, ending: str
) -> None:
    """The start fails before there is a session, as it does if the broker is down."""
    code = f"""
from lakehouse.settings import load_settings
from lakehouse.runtime import spark_session
spark_session.expect_session(load_settings())
print(spark_session._JVMS[0].process.pid, flush=True)
{ending}
"""
    environment = os.environ | settings_factory().environment() | {"TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert not psutil.pid_exists(int(run.stdout)), run.stderr
    assert not list(tmp_path.glob("lakehouse-jvm-*"))
