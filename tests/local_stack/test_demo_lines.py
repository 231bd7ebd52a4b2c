"""Errors before or around a demo: one line each, an exit code that is not 0, and nothing started."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.broker.ports import free_port
from lakehouse.local_stack import home_folder
from tests.support.demo_tools import assert_nothing_left, assert_one_line, environment, lakehouse


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def demo(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that must not start anything."""
    done = lakehouse("demo", "--home", str(home), *arguments, cwd=home.parent, variables=variables)
    assert_nothing_left(home)
    assert not (home / "broker").exists()
    return done


def test_busy_port(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(demo(home, "--port", str(port)), f"port {port}", "in use", "use --port")


def test_an_open_api_without_a_key(home: Path) -> None:
    done = demo(home, "--port", str(free_port()), LAKEHOUSE_SERVE_HOST="0.0.0.0")
    assert_one_line(done, "the API on 0.0.0.0 without a key", "LAKEHOUSE_API_KEY")


def test_no_java(home: Path) -> None:
    # Everything else where a Java may be found is the machine's, so the setting that overrides it all is used.
    done = demo(home, "--port", str(free_port()), LAKEHOUSE_JAVA_HOME="/nonexistent")
    assert_one_line(done, "no working Java", "expected Java 17, 21 or 25")


def test_no_java_anywhere(home: Path) -> None:
    script = (
        "import lakehouse.runtime.java as java, lakehouse.cli as cli\n"
        "java.USUAL_FOLDERS = ()\n"
        "java._download = lambda: None\n"
        f"cli.sys.argv = ['lakehouse', 'demo', '--home', {str(home)!r}, '--port', '{free_port()}']\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(PATH="/nonexistent"),
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_one_line(done, "found no Java", "Java 17, 21 or 25", "install it")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--venues", "binance,mtgox"), ("unknown venue 'mtgox'", "binance, kraken, coinbase")),
        (("--symbols", "BITCOIN"), ("BITCOIN", "expected BASE/QUOTE")),
        (("--rate", "0"), ("rate 0 trades/s", "1 to 20000")),
        (("--speed", "-1"), ("speed -1",)),
        (("--replay", "nothing-here.ws"), ("nothing-here.ws", "No such file")),
        (("--replay", "x.ws", "--venues", "kraken"), ("--replay with --venues",)),
    ],
)
def test_values_that_cannot_be_used(home: Path, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert_one_line(demo(home, *arguments), *parts)


def test_a_home_that_cannot_be_written(home: Path) -> None:
    home.write_text("a file", encoding="utf-8")
    done = lakehouse("demo", "--home", str(home), cwd=home.parent)
    assert_one_line(done, str(home), "expected a folder that we may write to")


def test_set_bootstrap_servers_that_do_not_answer(home: Path) -> None:
    servers = f"127.0.0.1:{free_port()}"
    done = demo(home, "--port", str(free_port()), LAKEHOUSE_BOOTSTRAP_SERVERS=servers)
    assert_one_line(done, servers)
    assert done.returncode == 75


def test_one_lakehouse_a_folder(home: Path) -> None:
    with home_folder.home_lock(home):
        assert_one_line(demo(home), "already running", str(home), "--home")
        home_folder.claim(home, "demo")
        assert_one_line(lakehouse("reset", "--yes", "--home", str(home), cwd=home.parent), "already running")


def test_live_refuses_a_demo_folder(home: Path) -> None:
    with home_folder.home_lock(home):
        home_folder.claim(home, "demo")
    done = lakehouse("up", "--home", str(home), "--port", str(free_port()), cwd=home.parent)
    assert_one_line(done, "holds demo data", "expected a folder of live data")


def test_live_refuses_a_simulator(home: Path) -> None:
    variables = {"LAKEHOUSE_SIMULATOR_URL": "http://127.0.0.1:1"}
    done = lakehouse("up", "--home", str(home), cwd=home.parent, variables=variables)
    assert_one_line(done, "LAKEHOUSE_SIMULATOR_URL", "unset it")


# --- reset and env


def test_reset_asks_and_deletes(tmp_path: Path) -> None:
    home = tmp_path / ".lakehouse" / "demo"
    with home_folder.home_lock(home):
        home_folder.claim(home, "demo")
    (home / "lake").mkdir()
    declined = lakehouse("reset", cwd=tmp_path, typed="n\n")
    assert declined.returncode == 1
    assert "Delete" in declined.stdout
    assert (home / "lake").is_dir()
    assert lakehouse("reset", cwd=tmp_path, typed="y\n").returncode == 0
    assert not home.exists()
    again = lakehouse("reset", "--yes", cwd=tmp_path)
    assert (again.returncode, again.stdout.startswith("nothing to delete")) == (0, True)


def test_reset_of_the_other_kind_or_an_unknown_one(home: Path) -> None:
    with home_folder.home_lock(home):
        home_folder.claim(home, "demo")
    assert_one_line(lakehouse("reset", "live", "--yes", "--home", str(home), cwd=home.parent), "holds demo data")
    assert_one_line(lakehouse("reset", "gold", cwd=home.parent), "'gold'", "one of demo, live")


def test_env_prints_what_a_shell_can_read(home: Path) -> None:
    home.mkdir()
    home_folder.save_environment(home, {"DAGSTER_HOME": "/a folder/dagster"})
    done = lakehouse("env", "--home", str(home), cwd=home.parent)
    assert (done.returncode, done.stdout) == (0, "export DAGSTER_HOME='/a folder/dagster'\n")
    assert_one_line(lakehouse("env", cwd=home.parent), "no lakehouse has run")
