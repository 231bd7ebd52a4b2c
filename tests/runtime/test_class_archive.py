"""The archive of the JVM's classes: named by what it is of, used where it is there, and never needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from lakehouse.runtime import class_archive
from lakehouse.runtime.java import find_java
from lakehouse.runtime.spark_session import JVM_MARK
from lakehouse.streams import class_training

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def java(tmp_path: Path) -> Path:
    executable = tmp_path / "java"
    executable.write_text("one Java")
    return executable


def test_another_java_or_other_jars_have_another_archive(
    java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "delta.jar"
    jar.write_text("a")
    monkeypatch.setattr(class_archive, "class_path", lambda: [jar])
    first = class_archive.archive(java)
    assert class_archive.archive(java) == first
    jar.write_text("ab")
    second = class_archive.archive(java)
    other = tmp_path / "other-java"
    other.write_text("another Java")
    assert len({first, second, class_archive.archive(other)}) == 3


def test_without_an_archive_java_is_asked_for_nothing(
    java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "archive", lambda _: tmp_path / "none.jsa")
    assert class_archive.java_options(java) == ()


def test_one_that_cannot_be_made_is_one_line_and_no_failure(
    java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spark-classes-1.jsa"
    monkeypatch.setattr(class_training, "archive", lambda _: file)
    monkeypatch.setenv("LAKEHOUSE_JAVA_HOME", str(find_java(for_spark=True).parent.parent))
    monkeypatch.setenv("LAKEHOUSE_SPARK_MASTER", "no master")
    assert class_training.main([]) == 0
    error = capfd.readouterr().err
    assert error.startswith("lakehouse: no archive of the JVM's classes: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("spark-classes-*"))


def test_one_that_takes_too_long_is_one_line_too(
    java: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(class_training, "archive", lambda _: tmp_path / "spark-classes-1.jsa")
    monkeypatch.setattr(class_training, "RECORD_SECONDS", 0.1)
    assert class_training.main([]) == 0
    assert "no archive of the JVM's classes: not made within 0.1 s" in capfd.readouterr().err


@pytest.mark.spark
def test_a_session_starts_from_it(spark: SparkSession) -> None:
    """`make test` has made it; a JVM that cannot use it says so in its own words and goes on."""
    file = class_archive.archive(find_java(for_spark=True))
    if not file.exists():
        pytest.skip("no archive here; `make` makes one")
    (jvm,) = [one for one in psutil.Process().children() if JVM_MARK in one.cmdline()]
    assert f"-XX:SharedArchiveFile={file}" in jvm.cmdline()
    # Java maps the archive into memory only where it fits.
    assert str(file) in Path(f"/proc/{jvm.pid}/maps").read_text() if Path("/proc").exists() else True
