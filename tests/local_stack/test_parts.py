"""The local stack's parts by themselves: restarts, folder, processes, memory, generated Dagster home."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lakehouse.cli.demo import demo
from lakehouse.cli.simulate import simulate
from lakehouse.errors import LeaseHeldError, SettingError
from lakehouse.local_stack import child_commands, home_folder
from lakehouse.local_stack.memory import measure
from lakehouse.local_stack.processes import (
    CAP_SECONDS,
    HEALTHY_SECONDS,
    MARKER,
    Child,
    ChildSpec,
    RestartPolicy,
    child_environment,
    end_processes,
    last_line,
    marked_processes,
)
from lakehouse.simulator.options import DEFAULT_MOVES_PER_HOUR
from tests.conftest import SettingsFactory


def spec(home: Path, code: str) -> ChildSpec:
    """A Python child of this home."""
    command = (sys.executable, "-c", code)
    return ChildSpec("child", command, child_environment({}, home), home / "logs" / "child.log")


# --- restarts


def test_three_deaths_at_the_start_give_up() -> None:
    policy = RestartPolicy()
    assert [policy.died(1.0), policy.died(1.0), policy.died(1.0)] == [0.5, 1.0, None]


def test_a_child_that_once_lived_is_started_for_ever_with_a_capped_backoff() -> None:
    policy = RestartPolicy()
    assert policy.died(HEALTHY_SECONDS) == 0.5
    waits = [policy.died(1.0) for _ in range(2000)]
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits[-1] == CAP_SECONDS


def test_a_long_life_forgives_earlier_deaths() -> None:
    policy = RestartPolicy()
    policy.died(1.0)
    policy.died(1.0)
    assert policy.died(HEALTHY_SECONDS + 1) == 0.5


# --- folder


def test_the_lock_refuses_a_second_holder_and_names_the_first(tmp_path: Path) -> None:
    with (
        home_folder.home_lock(tmp_path),
        pytest.raises(LeaseHeldError, match=f"already running .*process {os.getpid()}"),
    ):
        home_folder.home_lock(tmp_path).__enter__()
    with home_folder.home_lock(tmp_path):
        pass


def test_simulated_and_live_data_never_share_a_folder(tmp_path: Path) -> None:
    home_folder.claim(tmp_path, "demo")
    assert "SIMULATED" in (tmp_path / "SIMULATED-DATA.txt").read_text(encoding="utf-8")
    home_folder.claim(tmp_path, "demo")
    with pytest.raises(SettingError, match="holds demo data"):
        home_folder.claim(tmp_path, "live")


def test_emptying_leaves_what_is_not_ours(tmp_path: Path) -> None:
    with home_folder.home_lock(tmp_path):
        home_folder.claim(tmp_path, "demo")
        (tmp_path / "lake" / "gold").mkdir(parents=True)
        (tmp_path / "lake" / "gold" / "part").write_text("x", encoding="utf-8")
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        home_folder.empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_saved_settings_come_back(tmp_path: Path) -> None:
    home_folder.save_environment(tmp_path, {"LAKEHOUSE_HOME": "/somewhere else"})
    assert home_folder.load_environment(tmp_path) == {"LAKEHOUSE_HOME": "/somewhere else"}
    with pytest.raises(SettingError, match="no lakehouse has run"):
        home_folder.load_environment(tmp_path / "other")


# --- processes


def test_a_child_starts_with_default_signals_and_without_the_bytecode_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Child(
            spec(
                tmp_path,
                "import os, signal\n"
                "print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGHUP)],"
                " signal.getsignal(signal.SIGINT) == signal.default_int_handler,"
                " os.environ.get('PYTHONDONTWRITEBYTECODE'), os.getsid(0) == os.getpid())",
            )
        )
        assert child.wait(20)
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.exit_code() == 0
    assert last_line(child.spec.log) == "[True, True] True None True"


def test_processes_are_found_by_their_marker_when_their_parent_is_gone(tmp_path: Path) -> None:
    # The middle one starts a sleeper and ends, so that somebody else adopts the sleeper.
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    child = Child(spec(tmp_path, code))
    assert child.wait(20)
    found = marked_processes(tmp_path)
    assert len(found) == 1
    assert found[0].ppid() != os.getpid()
    assert end_processes(found, time.monotonic() + 5) == []
    assert marked_processes(tmp_path) == []


def test_a_process_that_ignores_sigterm_is_killed_within_the_deadline(tmp_path: Path) -> None:
    child = Child(
        spec(
            tmp_path,
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('ready', flush=True); time.sleep(60)",
        )
    )
    wait_for_line(child, "ready")
    started = time.monotonic()
    killed = end_processes(marked_processes(tmp_path), started + 1.5)
    assert [process.pid for process in killed] == [child.pid]
    assert time.monotonic() - started < 3
    assert child.wait(1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_children_die_with_a_killed_stack(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.local_stack.test_parts import spec\n"
        "from lakehouse.local_stack.processes import Child\n"
        f"child = Child(spec(Path({str(tmp_path)!r}), 'import time; time.sleep(60)'))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as room:
        assert room.stdout is not None
        pid = int(room.stdout.readline())
        sleeper = psutil.Process(pid)
        room.kill()
        psutil.wait_procs([sleeper], timeout=5)
    assert marked_processes(tmp_path) == []


def test_memory_counts_the_children(tmp_path: Path) -> None:
    alone = measure((psutil.Process(), *marked_processes(tmp_path)))
    child = Child(spec(tmp_path, "block = b'x' * 50_000_000; print('ready', flush=True); import time; time.sleep(60)"))
    try:
        wait_for_line(child, "ready")
        both = measure((psutil.Process(), *marked_processes(tmp_path)))
    finally:
        end_processes(marked_processes(tmp_path), time.monotonic() + 5)
        child.wait(5)
    assert (alone.processes, both.processes) == (1, 2)
    assert both.rss - alone.rss > 50_000_000
    if sys.platform == "linux":
        assert both.pss - alone.pss > 45_000_000


def wait_for_line(child: Child, line: str) -> None:
    deadline = time.monotonic() + 20
    while last_line(child.spec.log) != line:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Dagster's home


def test_the_generated_dagster_home_points_at_our_code_server(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    workspace = child_commands.write_dagster_home(settings, 12345)
    server = {"host": "127.0.0.1", "port": 12345, "location_name": "lakehouse"}
    assert json.loads(workspace.read_text(encoding="utf-8")) == {"load_from": [{"grpc_server": server}]}
    assert (settings.dagster_home / "dagster.yaml").read_text(encoding="utf-8").count("QueuedRunCoordinator") == 1


def test_every_member_carries_settings_marker_and_dagster_home(settings_factory: SettingsFactory) -> None:
    settings = settings_factory(symbols="BTC/USDT,ETH/USDT", simulator_url="http://127.0.0.1:1")
    for one in (
        child_commands.code_server_command(settings, 1),
        child_commands.daemon_command(settings, Path("w")),
        child_commands.webserver_command(settings, Path("w")),
        child_commands.api_command(settings),
        child_commands.simulator_command(settings, child_commands.SimulatedMarket(1)),
    ):
        assert one.environment["LAKEHOUSE_SYMBOLS"] == "BTC/USDT,ETH/USDT"
        assert one.environment["DAGSTER_HOME"] == str(settings.dagster_home)
        assert one.environment[MARKER] == str(settings.home.absolute())


def test_the_simulator_gets_the_moves_that_are_asked_for(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    for market, wanted in (
        (child_commands.SimulatedMarket(1), DEFAULT_MOVES_PER_HOUR),
        (child_commands.SimulatedMarket(1, moves_per_hour=12.0), 12.0),
    ):
        command = child_commands.simulator_command(settings, market).command
        assert float(command[command.index("--moves-per-hour") + 1]) == wanted
    for run in (demo, simulate):
        assert inspect.signature(run).parameters["moves_per_hour"].default == DEFAULT_MOVES_PER_HOUR


def test_definitions_lie_next_to_the_packages() -> None:
    assert child_commands.definitions_file().name == "definitions.py"
