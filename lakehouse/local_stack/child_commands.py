"""Command lines of the child processes of one lakehouse, and Dagster's home.

Ingest and the streams are not among them: they are Dagster runs, launched and relaunched by its supervisor sensors.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import lakehouse
from lakehouse.broker.ports import LOCALHOST
from lakehouse.errors import MissingDependencyError
from lakehouse.local_stack.processes import ChildSpec, child_environment
from lakehouse.settings import Settings
from lakehouse.status.supervision import LOCATION


@dataclass(frozen=True)
class SimulatedMarket:
    """Options of a demo's simulated exchange: its port on this machine, `rate` in trades per second, and what it plays.

    `moves_per_hour` counts moves beyond 2 % in a minute, over all assets.

    `lakehouse.simulator.options.SimulatorOptions` gives their meaning and limits.
    """

    port: int
    rate: float = 100.0
    replays: tuple[Path, ...] = ()
    speed: float = 1.0
    delisted: tuple[str, ...] = ()
    moves_per_hour: float = 0.125

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"


def definitions_file() -> Path:
    """Return the path of Dagster's `definitions.py`, next to the packages in a checkout and in an installation.

    Raises MissingDependencyError if it is not there.
    """
    path = Path(lakehouse.__file__).resolve().parent.parent / "definitions.py"
    if not path.is_file():
        raise MissingDependencyError(f"no file {path}", "Dagster's definitions next to the packages", "install again")
    return path


def write_dagster_home(settings: Settings, code_server_port: int) -> Path:
    """Write dagster.yaml and workspace.yaml into `settings.dagster_home`, and return the path of workspace.yaml.

    The workspace names the code server's port. Dagster's own files stay.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("dagster.yaml"), home / "dagster.yaml")
    workspace = home / "workspace.yaml"
    server = {"host": LOCALHOST, "port": code_server_port, "location_name": LOCATION}
    # JSON is YAML, so that no path or name needs quoting rules of ours.
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}, indent=1) + "\n", encoding="utf-8")
    return workspace


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that every child gets and that `lakehouse env` prints: the settings and DAGSTER_HOME."""
    return {**settings.environment(), "DAGSTER_HOME": str(settings.dagster_home)}


def _spec(settings: Settings, name: str, *command: str) -> ChildSpec:
    home = settings.home.absolute()
    return ChildSpec(
        name=name,
        command=(sys.executable, "-m", *command),
        environment=child_environment(environment(settings), home),
        log=home / "logs" / f"{name}.log",
    )


def record_folder(settings: Settings) -> Path:
    """Return the folder of the record of all trades that the simulated exchange has made."""
    return settings.home.absolute() / "simulator" / "record"


def simulator_command(settings: Settings, market: SimulatedMarket) -> ChildSpec:
    """Describe the child process of the demo's simulated exchange."""
    record = str(record_folder(settings))
    options = ["--port", str(market.port), "--rate", str(market.rate), "--record", record]
    options += ["--moves-per-hour", str(market.moves_per_hour)]
    for replay in market.replays:
        options += ["--replay", str(replay.absolute())]
    for name in market.delisted:
        options += ["--delisted", name]
    return _spec(settings, "simulator", "lakehouse", "simulate", *options, "--speed", str(market.speed))


def code_server_command(settings: Settings, port: int) -> ChildSpec:
    """Describe the child process of Dagster's code server, which serves the definitions and is every run's parent."""
    definitions = definitions_file()
    return _spec(
        settings,
        "code-server",
        *("dagster", "api", "grpc", "--host", LOCALHOST, "--port", str(port)),
        *("--python-file", str(definitions), "--working-directory", str(definitions.parent)),
        *("--location-name", LOCATION, "--use-python-environment-entry-point"),
    )


def webserver_command(settings: Settings, workspace: Path) -> ChildSpec:
    """Describe the child process of Dagster's webserver, which is the UI; `workspace` is its workspace file."""
    return _spec(
        settings,
        "webserver",
        *(
            "dagster_webserver",
            "--host",
            settings.dagster_host,
            "--port",
            str(settings.dagster_port),
            "--workspace",
            str(workspace),
        ),
    )


def api_command(settings: Settings) -> ChildSpec:
    """Describe the child process of the HTTP API. It inherits the API key from this process's environment."""
    address = ("--host", settings.serve_host, "--port", str(settings.serve_port))
    return _spec(settings, "api", "lakehouse", "serve", *address)


def daemon_command(settings: Settings, workspace: Path) -> ChildSpec:
    """Describe the child process of Dagster's daemon, which runs the sensors and the run queue."""
    return _spec(settings, "daemon", "dagster._daemon", "run", "--workspace", str(workspace))
