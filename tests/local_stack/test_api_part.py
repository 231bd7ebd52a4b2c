"""The HTTP API as a part of a lakehouse: its port, its start after the others, and that it never ends them."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

from lakehouse.broker.ports import free_port
from lakehouse.local_stack import child_commands
from lakehouse.local_stack.processes import MARKER, ChildSpec, child_environment, end_processes, marked_processes
from lakehouse.local_stack.stack import Plan, with_free_api_port
from lakehouse.local_stack.supervise import LocalStack
from lakehouse.settings import Settings
from tests.conftest import SettingsFactory

LISTENS = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


def test_a_busy_port_is_said_and_another_is_taken(settings_factory: SettingsFactory) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_factory(serve_port=taken.getsockname()[1])
        chosen = with_free_api_port(Plan("demo", settings, None), said.append).settings
    assert chosen.serve_port not in (settings.serve_port, settings.dagster_port)
    taken_instead = f"port {settings.serve_port} is in use, so the API takes {chosen.serve_port}"
    assert said == [f"{taken_instead}; LAKEHOUSE_SERVE_PORT chooses another"]
    free = settings_factory(serve_port=free_port())
    assert with_free_api_port(Plan("demo", free, None), said.append).settings is free
    assert len(said) == 1


@pytest.fixture
def stack(settings_factory: SettingsFactory, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """Parts that do nothing but listen, and an API that fails."""
    settings = settings_factory(dagster_port=free_port(), serve_port=free_port(), bootstrap_servers="127.0.0.1:1")

    def fake(name: str, code: str, *arguments: str) -> ChildSpec:
        command = (sys.executable, "-S", "-c", code, *arguments)
        return ChildSpec(name, command, child_environment({}, settings.home), settings.home / "logs" / f"{name}.log")

    def listener(name: str, port: int) -> ChildSpec:
        return fake(name, LISTENS, str(port))

    monkeypatch.setattr(child_commands, "code_server_command", lambda _, port: listener("code-server", port))
    monkeypatch.setattr(child_commands, "webserver_command", lambda *_: listener("webserver", settings.dagster_port))
    monkeypatch.setattr(child_commands, "daemon_command", lambda *_: fake("daemon", "import time; time.sleep(600)"))
    monkeypatch.setattr(child_commands, "api_command", lambda _: fake("api", "raise SystemExit(69)"))
    return LocalStack(settings, None, notes.append)


notes: list[str] = []


def test_an_api_that_never_comes_up_ends_nothing(stack: LocalStack) -> None:
    notes.clear()
    stack.start()
    stack.has_bars = True
    try:
        assert stack.states()["api"] == "waiting"
        deadline = time.monotonic() + 60
        while sum(note.startswith("api ended") for note in notes) < 4 and "30 s" not in " ".join(notes):
            stack.tick()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stack.tick()
        assert stack.states()["api"] == "restarting"
        assert stack.states()["webserver"] == "up"
        assert "api ended (exit code 69); starting it again in 30 s" in " ".join(notes)
    finally:
        end_processes(marked_processes(stack.settings.home), time.monotonic() + 5)
        for name in ("code-server", "daemon", "webserver", "api"):
            child = stack.child(name)
            assert child is None or child.wait(5)


def test_its_command_has_the_address_and_no_key(
    monkeypatch: pytest.MonkeyPatch, settings_factory: SettingsFactory
) -> None:
    key = "a-key-of-24-characters-x"
    monkeypatch.setenv("LAKEHOUSE_API_KEY", key)
    settings: Settings = settings_factory(serve_host="0.0.0.0", serve_port=8123)
    spec = child_commands.api_command(settings)
    assert spec.command[1:] == ("-m", "lakehouse", "serve", "--host", "0.0.0.0", "--port", "8123")
    assert spec.environment["LAKEHOUSE_API_KEY"] == key
    assert spec.environment[MARKER] == str(settings.home.absolute())
    assert "LAKEHOUSE_API_KEY" not in child_commands.environment(settings)  # saved, and printed by `lakehouse env`


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("lakehouse.example", "http://lakehouse.example:8000"),
    ],
)
def test_its_url_as_people_are_told(host: str, url: str, tmp_path: Path) -> None:
    from lakehouse.settings import load_settings

    assert load_settings(serve_host=host, home=tmp_path).api_url == url
