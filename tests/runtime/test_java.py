"""Which Java is taken, and what is said if none fits. The Javas are shell scripts that answer as java does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.errors import MissingDependencyError
from lakehouse.runtime import java
from lakehouse.runtime.java import Java, find_java, has_module, probe


def make_java(home: Path, version: str, modules: str = "java.base@17 jdk.incubator.vector@17") -> Path:
    """A folder that answers `java -version` as a JDK of that version does."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    listing = "\\n".join(modules.split())
    executable.write_text(
        "#!/bin/sh\n"
        f"case \"$*\" in *--list-modules*) printf '{listing}\\n';; "
        f"*) printf '    java.home = {home}\\nopenjdk version \"{version}\" 2025-04-15\\n' >&2;; esac\n"
    )
    executable.chmod(0o755)
    return home


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no Java is anywhere, and no internet."""
    monkeypatch.setattr(java, "USUAL_FOLDERS", (f"{tmp_path}/jvm/*",))
    monkeypatch.setattr(java, "_download", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for name in ("JAVA_HOME", "LAKEHOUSE_JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_java_of_this_machine_really_answers() -> None:
    found = probe(find_java(for_spark=True))
    assert found is not None
    assert found.major in (17, 21, 25)
    assert found.executable == found.home / "bin" / "java"
    assert has_module(found.executable, "java.base")


@pytest.mark.parametrize(
    ("version", "major"), [("17.0.15", 17), ("21", 21), ("21-ea", 21), ("1.8.0_402", 8), ("11.0.2", 11), ("25.0.3", 25)]
)
def test_major(version: str, major: int) -> None:
    assert Java(Path("/x/bin/java"), version).major == major


def test_nothing_there(bare: Path) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"^found no Java; expected Java 17, 21 or 25; install it"
    ) as caught:
        find_java()
    assert "\n" not in str(caught.value)


def test_java_home_that_is_too_old_is_passed_over(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(bare / "eleven", "11.0.2")))
    with pytest.raises(MissingDependencyError, match=r"found Java 11\.0\.2 at .*eleven; expected Java 17, 21 or 25"):
        find_java()
    right = make_java(bare / "jvm" / "misnamed-8", "21.0.1")
    assert find_java() == right / "bin" / "java"


def test_every_wrong_one_is_named(bare: Path) -> None:
    make_java(bare / "jvm" / "a", "1.8.0_402")
    make_java(bare / "jvm" / "b", "26")
    with pytest.raises(MissingDependencyError, match=r"found Java 1\.8\.0_402 at .*/a, Java 26 at .*/b"):
        find_java()


def test_explicit_choice_is_not_replaced_by_another(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_java(bare / "jvm" / "good", "17.0.1")
    monkeypatch.setenv("LAKEHOUSE_JAVA_HOME", str(make_java(bare / "eleven", "11.0.2")))
    with pytest.raises(MissingDependencyError, match=r"LAKEHOUSE_JAVA_HOME: found Java 11\.0\.2"):
        find_java()
    monkeypatch.setenv("LAKEHOUSE_JAVA_HOME", str(bare / "nowhere"))
    with pytest.raises(MissingDependencyError, match="no working Java at"):
        find_java()


def test_spark_needs_its_module(bare: Path) -> None:
    cut = make_java(bare / "jvm" / "cut", "17.0.1", modules="java.base@17")
    assert find_java() == cut / "bin" / "java"
    with pytest.raises(MissingDependencyError, match="without Spark's module"):
        find_java(for_spark=True)


def test_a_java_that_does_not_run_is_no_java(bare: Path) -> None:
    executable = bare / "jvm" / "broken" / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text("not a program")
    with pytest.raises(MissingDependencyError, match="found no Java"):
        find_java()


@pytest.mark.parametrize(
    ("version", "modules", "words"),
    [
        (
            "11.0.2",
            "java.base@11 jdk.incubator.vector@11",
            r"found Java 1\.8\.0_402 at .*, Java 11\.0\.2 at .*downloaded",
        ),
        ("17.0.1", "java.base@17", r"Java 17\.0\.1 at .*downloaded without Spark's module"),
    ],
)
def test_a_downloaded_java_must_fit_too(
    bare: Path, monkeypatch: pytest.MonkeyPatch, version: str, modules: str, words: str
) -> None:
    make_java(bare / "jvm" / "old", "1.8.0_402")
    unfit = make_java(bare / "downloaded", version, modules) / "bin" / "java"
    monkeypatch.setattr(java, "_download", lambda: probe(unfit))
    with pytest.raises(MissingDependencyError, match=words):
        find_java(for_spark=True)
    fit = make_java(bare / "fits", "17.0.1") / "bin" / "java"
    monkeypatch.setattr(java, "_download", lambda: probe(fit))
    assert find_java(for_spark=True) == fit
