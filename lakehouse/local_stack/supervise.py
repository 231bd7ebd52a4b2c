"""Supervise the processes of one lakehouse: start them, start them again if they die, and report their states.

Order of a start, as parallel as the parts allow:
1. broker, simulator (demo) and Dagster's code server at once;
2. topics as soon as the broker answers a metadata request;
3. daemon and webserver as soon as the code server answers: earlier they would load an empty workspace, and the daemon
   would look again only after a minute.
4. the HTTP API once there are bars, so that its start does not delay them. It is an extra: if it never comes up, the
   rest goes on without it.
The daemon's supervisor sensors launch ingest and the streams, which wait for the broker by themselves.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lakehouse.broker.ports import LOCALHOST, free_port
from lakehouse.errors import TerminalError
from lakehouse.local_stack import child_commands
from lakehouse.local_stack.broker_supervisor import BrokerSupervisor
from lakehouse.local_stack.processes import CAP_SECONDS, Child, ChildSpec, RestartPolicy, last_line
from lakehouse.settings import Settings

#: Seconds that the API waits for bars after the webserver answers: there may be none for long (no network, no trades).
API_WAIT_SECONDS = 30.0


@dataclass
class _Part:
    """One part of the stack: its command, restarts and current child."""

    spec: ChildSpec
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    child: Child | None = None
    has_answered: bool = False
    start_at: float = 0.0
    restarts: int = 0
    is_extra: bool = False


class LocalStack:
    """All processes of one lakehouse. Call `start`, then `tick` a few times a second, all from one thread."""

    def __init__(
        self, settings: Settings, market: child_commands.SimulatedMarket | None, notify: Callable[[str], None]
    ) -> None:
        """Prepare to run `market`, a simulated exchange; None: live venues. `notify` gets single lines for people."""
        self.settings = settings
        self.market = market
        self.code_server_port = free_port()
        self.broker = None if settings.bootstrap_servers else BrokerSupervisor(settings, notify)
        self.has_bars = False  #: told by whoever watches the tables
        self._complete_since: float | None = None
        self._notify = notify
        self._parts: dict[str, _Part] = {}
        self._workspace = child_commands.write_dagster_home(settings, self.code_server_port)

    def start(self) -> None:
        """Start what can start at once; `tick` starts the rest. Returns without waiting."""
        if self.broker is not None:
            self.broker.start()
        if self.market is not None:
            self._add(child_commands.simulator_command(self.settings, self.market))
        self._add(child_commands.code_server_command(self.settings, self.code_server_port))

    def tick(self) -> None:
        """Look at every part once: start the parts whose time has come, and restart those that have died.

        Raises TerminalError if a part has died several times and was never up, or if the broker cannot start at all
        (busy port, no Java).
        """
        if self.broker is not None and self.broker.failure is not None:
            raise self.broker.failure
        for part in self._parts.values():
            self._look_after(part)
        if "daemon" not in self._parts and answers(self.code_server_port):
            self._add(child_commands.daemon_command(self.settings, self._workspace))
            self._add(child_commands.webserver_command(self.settings, self._workspace))
        if "api" not in self._parts and self._api_is_due():
            self._add(child_commands.api_command(self.settings), is_extra=True)

    def _api_is_due(self) -> bool:
        if "webserver" not in self._parts or not answers(self.settings.dagster_port):
            return False
        now = time.monotonic()
        if self._complete_since is None:
            self._complete_since = now
        return self.has_bars or now - self._complete_since >= API_WAIT_SECONDS

    def child(self, name: str) -> Child | None:
        """Return the running child with a name, such as `daemon`; None if it does not run at the moment."""
        part = self._parts.get(name)
        return part.child if part is not None and part.child is not None else None

    def pids(self) -> dict[int, str]:
        """Return process id → name of each part that runs now."""
        pids = {part.child.pid: name for name, part in self._parts.items() if part.child is not None}
        if self.broker is not None and self.broker.pid is not None:
            pids[self.broker.pid] = "broker"
        return pids

    def states(self) -> dict[str, str]:
        """Return part → its state (waiting, starting, up or restarting), broker included, in the order of the start.

        The state of a part that was started again ends with the number of restarts.
        """
        states: dict[str, str] = {}
        if self.broker is not None:
            states["broker"] = "up" if self.broker.ready.is_set() else "starting"
        expected = [name for name in ("simulator",) if self.market is not None]
        for name in (*expected, "code-server", "daemon", "webserver", "api"):
            states[name] = self._state(name)
        return states

    def _state(self, name: str) -> str:
        part = self._parts.get(name)
        if part is None:
            return "waiting"
        if part.child is None:
            return "restarting"
        ports = {
            "code-server": self.code_server_port,
            "webserver": self.settings.dagster_port,
            "api": self.settings.serve_port,
        }
        if self.market is not None:
            ports["simulator"] = self.market.port
        part.has_answered = part.has_answered or name not in ports or answers(ports[name])
        state = "up" if part.has_answered else "starting"
        return f"{state} ({part.restarts} restarts)" if part.restarts else state

    def _add(self, spec: ChildSpec, is_extra: bool = False) -> None:
        self._parts[spec.name] = _Part(spec, child=Child(spec), is_extra=is_extra)

    def _look_after(self, part: _Part) -> None:
        now = time.monotonic()
        if part.child is None:
            if now >= part.start_at:
                part.child = Child(part.spec)
                part.restarts += 1
            return
        code = part.child.exit_code()
        if code is None:
            return
        name, line = part.spec.name, last_line(part.spec.log)
        delay = part.policy.died(now - part.child.started)
        part.child, part.has_answered = None, False
        if delay is None and part.is_extra:
            delay = CAP_SECONDS
        if delay is None:
            raise TerminalError(
                f"{name} ended {part.policy.deaths_in_a_row} times while starting (exit code {code}): {line}",
                f"a {name} that stays up",
                f"see {part.spec.log}",
            )
        part.start_at = now + delay
        self._notify(f"{name} ended (exit code {code}); starting it again in {delay:g} s; its log: {part.spec.log}")


def answers(port: int) -> bool:
    """Return True if a process accepts connections on a local port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOCALHOST, port)) == 0
