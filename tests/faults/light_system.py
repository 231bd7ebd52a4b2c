"""Light: simulator, Kafka, ingest and stream as plain commands, which the suite itself starts again. No Dagster."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from lakehouse.broker.ports import free_port
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import ensure_tables
from lakehouse.local_stack import child_commands, home_folder
from lakehouse.local_stack.processes import MARKER, Child, ChildSpec, last_line
from lakehouse.settings import load_settings
from lakehouse.status.snapshot import collect
from tests.faults import system
from tests.faults.system import NotReached, alive, java_below
from tests.support.embedded_cluster import EmbeddedCluster

#: Seconds from a death to the next start.
RESTART_SECONDS = 0.5
#: Deaths in a row of a part that lived for less than `SHORT_LIFE_SECONDS`, after which it is broken and not unlucky.
SHORT_LIVES = 20
SHORT_LIFE_SECONDS = 15.0
#: Seconds for one command to end in order.
END_SECONDS = 30.0


class Kafka(Protocol):
    """The brokers under the light system."""

    name: str  #: as a target
    bootstrap: str | None  #: None: the embedded broker of the home

    def start(self) -> None: ...

    def look(self) -> None: ...

    def find(self) -> psutil.Process | None: ...

    def stop(self) -> None: ...


class Kept:
    """One command that is started again whenever it ends."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.deaths = 0
        self.child: Child | None = Child(spec)
        self._next_start = 0.0

    def look(self) -> None:
        """Start it again where it has ended. Raises NotReached where it does nothing but end."""
        now = time.monotonic()
        if self.child is None and now >= self._next_start:
            self.child = Child(self.spec)
        elif self.child is not None and self.child.exit_code() is not None:
            self.deaths = self.deaths + 1 if now - self.child.started < SHORT_LIFE_SECONDS else 0
            if self.deaths > SHORT_LIVES:
                raise NotReached(f"{self.spec.name} ended {self.deaths} times in a row: {last_line(self.spec.log)}")
            self.child, self._next_start = None, now + RESTART_SECONDS

    def end(self) -> str:
        """End it in order; what went wrong, or an empty string."""
        if self.child is None or self.child.exit_code() is not None:
            return ""
        self.child.signal(signal.SIGTERM)
        if not self.child.wait(END_SECONDS):
            self.child.signal(signal.SIGKILL)
            return f"{self.spec.name} had not ended {END_SECONDS:g} s after SIGTERM"
        code = self.child.exit_code()
        return f"{self.spec.name} ended with {code}: {last_line(self.spec.log)}" if code else ""


class OneBroker:
    """`lakehouse broker`; its JVM is what dies, and the command with it."""

    name = "broker"
    bootstrap: str | None = None

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._kept: Kept | None = None

    def start(self) -> None:
        self._kept = Kept(self._spec)

    def look(self) -> None:
        if self._kept is not None:
            self._kept.look()

    def find(self) -> psutil.Process | None:
        child = self._kept.child if self._kept else None
        return java_below(alive(child.pid)) if child is not None else None

    def stop(self) -> None:
        if self._kept is not None:
            self._kept.end()


class ThreeBrokers:
    """Three nodes, of which one at a time dies; a thread brings it back, since that takes seconds."""

    name = "node"

    def __init__(self, home: Path) -> None:
        self._cluster = EmbeddedCluster(home / "brokers")
        self._turn = 0
        self._thread: threading.Thread | None = None
        self._failure: LakehouseError | None = None
        self.bootstrap: str | None = None

    def start(self) -> None:
        self._cluster.start()
        self.bootstrap = self._cluster.bootstrap

    def look(self) -> None:
        if self._failure is not None:
            raise self._failure
        dead = {1, 2, 3} - set(self._cluster.pids)
        if dead and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._revive, args=(min(dead),), daemon=True)
            self._thread.start()

    def find(self) -> psutil.Process | None:
        """The next node in turn, where all three live: with two dead the cluster would rightly stand still."""
        pids = self._cluster.pids
        if len(pids) < 3 or (self._thread is not None and self._thread.is_alive()):
            return None
        self._turn = self._turn % 3 + 1
        return alive(pids[self._turn])

    def stop(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._cluster.stop()

    def _revive(self, number: int) -> None:
        try:
            self._cluster.start_node(number)
        except LakehouseError as error:
            self._failure = error


class LightSystem:
    """The four commands over `home`. `ingest` and `stream` are run through `runner`, which may be a mutant's."""

    def __init__(
        self,
        home: Path,
        rate: float,
        brokers: int = 1,
        runner: Sequence[str] = ("lakehouse",),
        symbols: Sequence[str] | None = None,
    ) -> None:
        self._home = home.absolute()
        self._rate = rate
        self._runner = tuple(runner)
        self._port = free_port()
        self.simulator_url = f"http://127.0.0.1:{self._port}"
        self.settings = load_settings(
            home=self._home, simulator_url=self.simulator_url, trigger="2 seconds", symbols=tuple(symbols or ()) or None
        )
        self._kafka: Kafka = ThreeBrokers(self._home) if brokers == 3 else OneBroker(self._spec("broker"))
        self._kept: dict[str, Kept] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        return ("ingest", "stream", "stream-jvm", self._kafka.name)

    def start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        os.environ[MARKER] = str(self._home)  # for the JVMs that this process itself starts
        market = child_commands.SimulatedMarket(self._port, self._rate)
        record = ("--record", str(child_commands.record_folder(self.settings)))
        symbols = ("--symbols", ",".join(self.settings.symbols))
        options = ("--port", str(market.port), "--rate", f"{market.rate:g}", "--moves-per-hour", system.MOVES_PER_HOUR)
        simulate = ("simulate", *options, *record, *symbols)
        self._kept["simulator"] = Kept(self._spec(*simulate))
        self._kafka.start()
        if self._kafka.bootstrap:
            self.settings = self.settings.model_copy(update={"bootstrap_servers": self._kafka.bootstrap})
        system.wait_for("Kafka", self._has_topics, system.START_SECONDS, self.look)
        ensure_tables(self.settings)
        home_folder.save_environment(self._home, self.settings.environment())
        self._kept["stream"] = Kept(self._spec("stream", runner=self._runner))
        self._kept["ingest"] = Kept(self._spec("ingest", runner=self._runner))
        system.wait_for("trades in Gold", self._has_bars, system.START_SECONDS, self.look)

    def look(self) -> None:
        self._kafka.look()
        for name, kept in self._kept.items():
            if name == "simulator" and kept.child is not None and kept.child.exit_code() is not None:
                raise NotReached(f"the simulator, which holds the truth, ended: {last_line(kept.spec.log)}")
            kept.look()

    def find(self, target: str) -> psutil.Process | None:
        if target == self._kafka.name:
            return self._kafka.find()
        kept = self._kept.get(target.removesuffix("-jvm"))
        process = alive(kept.child.pid) if kept is not None and kept.child is not None else None
        return java_below(process) if target.endswith("-jvm") else process

    def stop(self) -> None:
        # Against the way of a trade, so that each finds what it needs to end cleanly.
        failures = [self._kept[name].end() for name in ("ingest", "stream", "simulator") if name in self._kept]
        self._kafka.stop()
        if left := system.end_leftovers(self._home):
            failures.append(f"left running: {'; '.join(left)}")
        os.environ.pop(MARKER, None)
        failures = [failure for failure in failures if failure]
        assert not failures, "; ".join(failures)

    def _spec(self, *arguments: str, runner: Sequence[str] = ("lakehouse",)) -> ChildSpec:
        name = arguments[0]
        variables = system.child_variables(self.settings.environment(), self._home)
        command = (sys.executable, "-m", *runner, *arguments)
        return ChildSpec(name, command, variables, self._home / "logs" / f"{name}.log")

    def _has_topics(self) -> bool:
        with contextlib.suppress(LakehouseError):
            ensure_topics(self.settings, timeout=2.0)
            return True
        return False

    def _has_bars(self) -> bool:
        with contextlib.suppress(LakehouseError):
            return bool(collect(self.settings).bars)
        return False
