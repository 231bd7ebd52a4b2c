"""The control room: starts the processes of one lakehouse, starts them again when they die, tells what they do.

Order of a start, as parallel as the parts allow:
1. broker, simulator (demo) and Dagster's code server at once;
2. topics as soon as the broker answers a metadata request;
3. daemon and webserver as soon as the code server answers: earlier they would load an empty workspace, and the daemon
   looks again only after a minute.
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
from lakehouse.local_stack.broker_supervisor import BrokerKeeper
from lakehouse.local_stack.processes import Child, ChildSpec, last_line
from lakehouse.local_stack.restart import RestartPolicy
from lakehouse.settings import Settings


@dataclass
class _Place:
    """Where one child belongs, over all its lives."""

    spec: ChildSpec
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    child: Child | None = None
    has_answered: bool = False
    start_at: float = 0.0
    restarts: int = 0


class ControlRoom:
    """All processes of one lakehouse. Call `start`, then `tick` a few times a second, all from one thread."""

    def __init__(self, settings: Settings, market: child_commands.Market | None, notify: Callable[[str], None]) -> None:
        """`market` is the simulated exchange to run, None for live venues; `notify` takes one line for people."""
        self.settings = settings
        self.market = market
        self.code_server_port = free_port()
        self.broker = None if settings.bootstrap_servers else BrokerKeeper(settings, notify)
        self._notify = notify
        self._places: dict[str, _Place] = {}
        self._workspace = child_commands.write_dagster_home(settings, self.code_server_port)

    def start(self) -> None:
        """Start what can start at once; `tick` starts the rest. Returns without waiting."""
        if self.broker is not None:
            self.broker.start()
        if self.market is not None:
            self._add(child_commands.simulator(self.settings, self.market))
        self._add(child_commands.code_server(self.settings, self.code_server_port))

    def tick(self) -> None:
        """Look after everything once. Raises TerminalError where a part has never come up."""
        if self.broker is not None and self.broker.failure is not None:
            raise self.broker.failure
        for place in self._places.values():
            self._look_after(place)
        if "daemon" not in self._places and answers(self.code_server_port):
            self._add(child_commands.daemon(self.settings, self._workspace))
            self._add(child_commands.webserver(self.settings, self._workspace))

    def child(self, name: str) -> Child | None:
        """A running child, None where there is none at the moment."""
        place = self._places.get(name)
        return place.child if place is not None and place.child is not None else None

    def pids(self) -> dict[int, str]:
        """Process id → part, of the parts that run now."""
        pids = {place.child.pid: name for name, place in self._places.items() if place.child is not None}
        if self.broker is not None and self.broker.pid is not None:
            pids[self.broker.pid] = "broker"
        return pids

    def states(self) -> dict[str, str]:
        """Part → one word or two for the screen, in the order of the start."""
        states: dict[str, str] = {}
        if self.broker is not None:
            states["broker"] = "up" if self.broker.ready.is_set() else "starting"
        expected = [name for name in ("simulator",) if self.market is not None]
        for name in (*expected, "code-server", "daemon", "webserver"):
            states[name] = self._state(name)
        return states

    def _state(self, name: str) -> str:
        place = self._places.get(name)
        if place is None:
            return "waiting"
        if place.child is None:
            return "restarting"
        ports = {"code-server": self.code_server_port, "webserver": self.settings.dagster_port}
        if self.market is not None:
            ports["simulator"] = self.market.port
        place.has_answered = place.has_answered or name not in ports or answers(ports[name])
        state = "up" if place.has_answered else "starting"
        return f"{state} ({place.restarts} restarts)" if place.restarts else state

    def _add(self, spec: ChildSpec) -> None:
        self._places[spec.name] = _Place(spec, child=Child(spec))

    def _look_after(self, place: _Place) -> None:
        now = time.monotonic()
        if place.child is None:
            if now >= place.start_at:
                place.child = Child(place.spec)
                place.restarts += 1
            return
        code = place.child.exit_code()
        if code is None:
            return
        name, line = place.spec.name, last_line(place.spec.log)
        delay = place.policy.died(now - place.child.started)
        place.child, place.has_answered = None, False
        if delay is None:
            raise TerminalError(
                f"{name} ended {place.policy.deaths_in_a_row} times while starting (exit code {code}): {line}",
                f"a {name} that stays up",
                f"see {place.spec.log}",
            )
        place.start_at = now + delay
        self._notify(f"{name} ended (exit code {code}); starting it again in {delay:g} s; its log: {place.spec.log}")


def answers(port: int) -> bool:
    """Whether somebody accepts connections on a local port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOCALHOST, port)) == 0
