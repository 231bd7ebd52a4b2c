"""The jars: locked, verified, quick when cached; against a Maven repository served on localhost, no internet needed."""

from __future__ import annotations

import functools
import hashlib
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jgo.maven import Artifact

from lakehouse.errors import MissingDependencyError
from lakehouse.runtime import jars, maven

SMALL = ("org.example.one:alpha:1.0", "org.example.two:beta_2.13:2.1")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Maven repository on localhost with two small jars; its folder, which `world` serves."""
    folder = tmp_path / "repository"
    for coordinate in SMALL:
        group, artifact, version = coordinate.split(":")
        place = folder / group.replace(".", "/") / artifact / version
        place.mkdir(parents=True)
        (place / f"{artifact}-{version}.jar").write_bytes(f"jar of {coordinate}".encode() * 100)
    return folder


@pytest.fixture
def world(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Cache, lock and repository of this test's own; yields the folder in which the jars shall appear."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(repository)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    lock = tmp_path / "jars.lock"
    lines = []
    for jar in sorted(repository.rglob("*.jar")):
        content = jar.read_bytes()
        artifact, version = jar.parent.parent.name, jar.parent.name
        group = ".".join(jar.relative_to(repository).parts[:-3])
        lines.append(f"broker {hashlib.sha256(content).hexdigest()} {len(content)} {group}:{artifact}:{version}\n")
    lock.write_text("# comment\n" + "".join(lines))
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.delenv("LAKEHOUSE_JARS", raising=False)
    monkeypatch.setenv("LAKEHOUSE_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "no-m2"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield tmp_path / "cache" / "crypto-lakehouse" / "jars" / "broker"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_committed_lock_holds_what_the_coordinates_name() -> None:
    locked = jars.read_lock()
    for jar_set, groups in jars.COORDINATES.items():
        names = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in locked if jar.jar_set == jar_set}
        for group in groups:
            assert names.issuperset(group)
    assert len([jar for jar in locked if jar.jar_set == "spark"]) == 13
    kafka = {jar.version for jar in locked if jar.jar_set == "broker" and jar.group == "org.apache.kafka"}
    assert kafka == {"4.3.1"}, "the broker's parts and its client library are of one version"
    assert "://" not in jars.LOCK.read_text(), "the lock names no host"


def test_artifact_names() -> None:
    assert jars._artifact_name("slf4j-api-2.0.17.jar") == "slf4j-api"
    assert jars._artifact_name("log4j-1.2-api-2.25.4.jar") == "log4j"  # This is as good: no jar of ours is called so.
    assert jars._artifact_name("spark-tags_2.13-4.2.0.jar") == "spark-tags_2.13"
    assert jars._artifact_name("datasketches-memory-3.0.2.jar") == "datasketches-memory"


def test_cached_jars_need_no_jgo_and_no_time() -> None:
    jars.broker_jars()  # Fetches them where this machine never had them.
    code = (
        "import sys, time; from lakehouse.runtime import jars; begin = time.perf_counter()\n"
        "assert len(jars.spark_jars()) == 13 and len(jars.broker_jars()) == 92\n"
        "assert 'jgo' not in sys.modules; print(time.perf_counter() - begin)"
    )
    jars.spark_jars()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.4


def test_first_use_downloads_and_reports(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    found = jars.jars("broker")
    assert [path.name for path in found] == ["alpha-1.0.jar", "beta_2.13-2.1.jar"]
    assert all(path.parent == world and path.read_bytes().startswith(b"jar of") for path in found)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "fetching jars from Maven: 0 of 2, 0 of 0 MB\nfetched 2 jars, 0 MB, in 0 s\n"
    assert time.monotonic() - begin < 10


def test_a_jar_cut_short_in_our_cache_is_fetched_again(world: Path) -> None:
    cached = world.parent.parent / "maven/org/example/one/alpha/1.0/alpha-1.0.jar"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"jar of org.exa")
    assert jars.broker_jars()[0].read_bytes() == b"jar of org.example.one:alpha:1.0" * 100


def test_a_jar_deleted_or_cut_short_in_place_is_put_back(world: Path) -> None:
    first, second = jars.broker_jars()
    first.unlink()
    second.unlink()
    second.write_bytes(b"short")
    assert not jars.is_ready("broker")
    jars.broker_jars()
    assert jars.is_ready("broker")


def test_another_content_is_refused_in_one_line(world: Path, repository: Path) -> None:
    (repository / "org/example/one/alpha/1.0/alpha-1.0.jar").write_bytes(b"evil")
    with pytest.raises(
        MissingDependencyError, match=r"alpha-1\.0\.jar as downloaded has sha256 .* expected sha256"
    ) as caught:
        jars.broker_jars()
    assert "\n" not in str(caught.value)
    assert not (world / "alpha-1.0.jar").exists()


def test_the_users_maven_cache_is_used_only_where_it_holds_the_very_jar(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setenv("LAKEHOUSE_MAVEN_URL", "http://127.0.0.1:9")
    assert len(jars.broker_jars()) == 2  # Nothing was downloaded: there is nobody at that port.
    (world / "alpha-1.0.jar").unlink()
    stale = repository / "org/example/one/alpha/1.0/alpha-1.0.jar"
    stale.unlink()
    stale.write_bytes(b"other build")
    with pytest.raises(MissingDependencyError):
        jars.broker_jars()
    assert stale.read_bytes() == b"other build"  # It is the user's: never touched.


def test_no_network_is_one_line_and_soon(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_MAVEN_URL", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(MissingDependencyError, match=r"cannot download .* from Maven .*LAKEHOUSE_JARS") as caught:
        jars.broker_jars()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < 5


def test_given_folder_is_never_filled_by_itself(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    monkeypatch.setenv("LAKEHOUSE_JARS", str(image))
    with pytest.raises(MissingDependencyError, match=r"LAKEHOUSE_JARS: .* lacks alpha-1\.0\.jar and 1 more"):
        jars.broker_jars()
    monkeypatch.delenv("LAKEHOUSE_JARS")
    assert jars.main(["--to", str(image)]) == 0
    monkeypatch.setenv("LAKEHOUSE_JARS", str(image))
    monkeypatch.setenv("LAKEHOUSE_MAVEN_URL", "http://127.0.0.1:9")
    assert [path.parent for path in jars.broker_jars()] == [image / "broker"] * 2


def test_two_processes_at_once(world: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lakehouse.runtime import jars\n"
        "jars.LOCK = Path(sys.argv[1]); print(len(jars.broker_jars()))"
    )
    command = [sys.executable, "-c", code, str(jars.LOCK)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    told = b""
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"2\n")
        told += err
    assert told.count(b"fetched 2 jars") == 1
    assert sorted(path.name for path in world.iterdir()) == ["alpha-1.0.jar", "beta_2.13-2.1.jar"]


def lines_of(jar_set: str, repository: Path, names: list[str]) -> str:
    """Lock lines for jars of the group `org.example.many`, which are put into the repository."""
    lines = []
    for name in names:
        content = f"jar {name}".encode() * 50
        place = repository / "org/example/many" / name / "1.0"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}-1.0.jar").write_bytes(content)
        lines.append(f"{jar_set} {hashlib.sha256(content).hexdigest()} {len(content)} org.example.many:{name}:1.0\n")
    return "".join(lines)


def test_both_sets_come_side_by_side_with_few_lines_and_a_shared_jar_once(
    world: Path, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"number{number}" for number in range(40)]
    asked: list[str] = []
    at_work: list[int] = []
    real = maven.Downloads.download

    def slow(self: maven.Downloads, artifact: Artifact) -> Path:
        asked.append(str(artifact))
        at_work.append(1)
        time.sleep(0.05)
        try:
            most.append(len(at_work))
            return real(self, artifact)
        finally:
            at_work.pop()

    most: list[int] = []
    monkeypatch.setattr(maven.Downloads, "download", slow)
    jars.LOCK.write_text(lines_of("spark", repository, names[:25]) + lines_of("broker", repository, names[20:]))
    assert len(jars.jars("spark", "broker")) == 45
    assert len(asked) == len(set(asked)) == 40
    assert 4 <= max(most) <= jars.PARALLEL
    assert len(capsys.readouterr().err.splitlines()) == 2
    shared = world / "number20-1.0.jar"
    assert shared.read_bytes() == (world.parent / "spark" / "number20-1.0.jar").read_bytes()


def test_the_first_failure_names_its_jar_and_leaves_nothing_broken(
    world: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"number{number}" for number in range(60)]
    jars.LOCK.write_text(lines_of("broker", repository, names))
    lost = repository / "org/example/many/number7/1.0/number7-1.0.jar"
    lost.unlink()
    (world.parent / "spark").mkdir(parents=True)
    orphan = world.parent / "spark" / ".killed-1.0.jar.4711"
    orphan.write_bytes(b"half a j")
    with pytest.raises(MissingDependencyError, match=r"^cannot download number7-1\.0\.jar from Maven") as caught:
        jars.broker_jars()
    assert "\n" not in str(caught.value)
    assert "fetched" not in capsys.readouterr().err
    assert not orphan.exists()
    for jar in world.iterdir():  # what came is whole, nothing else is there
        assert jar.read_bytes() == f"jar {jar.name.removesuffix('-1.0.jar')}".encode() * 50
    lost.write_bytes(b"jar number7" * 50)
    assert len(jars.broker_jars()) == 60


def test_a_download_that_is_cut_leaves_no_file(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cutting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "3200")
            self.end_headers()
            self.wfile.write(b"jar of org.exa")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Cutting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("LAKEHOUSE_MAVEN_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MissingDependencyError, match=r"cannot download \S+\.jar from Maven \(RemoteProtocolError"):
            jars.broker_jars()
        server.shutdown()
        thread.join()
    assert list(world.iterdir()) == []


def test_a_terminal_gets_one_line_that_is_rewritten(world: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lakehouse.runtime import jars\n"
        "jars.LOCK = Path(sys.argv[1]); jars.broker_jars()"
    )
    environment = {**os.environ, "TERM": "xterm"}
    leader, follower = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code, str(jars.LOCK)], stderr=follower, timeout=60, env=environment)
    os.close(follower)
    told = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "fetching jars from Maven: " in told
    assert "\x1b[2K" in told, "the line is cleared and written again"
    assert "fetched 2 jars" in told
    assert "alpha" not in told
