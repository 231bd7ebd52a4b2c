"""Run a lakehouse from its start to its end, for `lakehouse demo` and `lakehouse up`.

1. Take the folder's lock, then check everything that could be missing: port, Java, jars. Nothing has started yet.
2. Start the stack and look after it until somebody stops it or its minutes are over.
3. After its minutes: pause the market, wait until every trade has reached Gold or nothing moves any more, run every
   check (`drain`).
4. End everything within one deadline, whatever happened before, and check that nothing is left.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from deltalake.exceptions import DeltaError
from rich.console import Console

from lakehouse.broker.ports import free_port, is_free, require_free
from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import open_table
from lakehouse.local_stack import child_commands, home_folder
from lakehouse.local_stack.display import Display, View
from lakehouse.local_stack.drain import DrainReport, drain_and_check
from lakehouse.local_stack.memory import MemoryMeter
from lakehouse.local_stack.processes import MARKER, end_processes, marked_processes
from lakehouse.local_stack.shutdown import ShutdownReport, shut_down
from lakehouse.local_stack.supervise import LocalStack
from lakehouse.runtime import jars
from lakehouse.runtime.java import find_java
from lakehouse.serving.access import require_allowed
from lakehouse.settings import Settings
from lakehouse.status.snapshot import StatusReader
from lakehouse.tables import GOLD_BARS_1M

#: Seconds between two looks at the child processes: to a person, a dead one is noticed at once.
TICK_SECONDS = 0.25
#: Seconds between two looks at the ports of the parts, whose states the display shows.
STATES_SECONDS = 1.0
#: Seconds between two looks at the tables: a look takes 0.2 s of a core that Spark needs while it starts.
SNAPSHOT_SECONDS = 5.0
#: Seconds between two looks at the version of the bars' table until it has bars; a look takes milliseconds.
FIRST_BAR_SECONDS = 1.0
#: Seconds within which a Kafka that is not ours must answer a metadata request.
BROKER_SECONDS = 10.0
#: Seconds that processes left behind by a killed stack get to end; a run's lease gives up after 5.
LEFTOVER_SECONDS = 12.0


@dataclass(frozen=True)
class Plan:
    """The lakehouse to run. `market` is the demo's simulated exchange, None for live venues.

    If `minutes` is None, it runs until somebody stops it.
    """

    kind: home_folder.Kind
    settings: Settings
    market: child_commands.SimulatedMarket | None
    minutes: float | None = None


class StopRequests:
    """Count requests to stop: Ctrl-C, SIGTERM and a closed terminal. The first asks for a stop, the second forces it.

    The signal handler only counts, because it may interrupt anything.
    """

    def __init__(self) -> None:
        self.count = 0

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal.signal calls it
        self.count += 1

    @property
    def asked(self) -> bool:
        return self.count > 0

    @property
    def forced(self) -> bool:
        return self.count > 1


class Watcher:
    """Puts a new snapshot of the lake into the view every few seconds, and the time of the first bars.

    It runs in a thread, so that a slow look at the tables never delays a restart of a process.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._reader = StatusReader(view.settings)
        self._version_before = self._bars_version()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        view, next_snapshot = self._view, time.monotonic()
        while not self._stop.wait(FIRST_BAR_SECONDS):
            if view.first_bar_seconds is None and self._bars_version() > self._version_before:
                view.first_bar_seconds = time.monotonic() - view.started
            if time.monotonic() >= next_snapshot:
                try:
                    view.snapshot = self._reader.collect()
                except Exception as error:  # a table that is being created; the next look will see all of it
                    view.activity = f"status not readable: {error}".splitlines()[0][:100]
                next_snapshot = time.monotonic() + SNAPSHOT_SECONDS

    def _bars_version(self) -> int:
        """Return the version of gold/bars_1m; 0, as for an empty table, if there is none yet."""
        try:
            return open_table(self._view.settings, GOLD_BARS_1M).version()
        except (LakehouseError, DeltaError):
            return 0


def run(plan: Plan, console: Console) -> int:
    """Run a lakehouse from start to end and return the exit code: 1 if a process is left or draining did not pass.

    Raises LakehouseError if it cannot start or a part never comes up.
    """
    plan = with_free_api_port(plan, say=lambda line: console.print(line, highlight=False))
    settings = plan.settings
    view = View(settings)
    os.environ[MARKER] = str(settings.home.absolute())  # for the broker's JVM, which inherits our environment
    with home_folder.home_lock(settings.home):
        preflight(plan, say=lambda line: console.print(line, highlight=False))
        stop = StopRequests()
        stop.install()
        meter, watcher = MemoryMeter(settings.home), Watcher(view)
        display = Display(console, view)
        with display.on_screen():
            stack = LocalStack(settings, plan.market, display.say)
            display.say(_welcome(plan, view))
            drained: DrainReport | None = None
            failure: LakehouseError | None = None
            try:
                stack.start()
                meter.start()
                watcher.start()
                drained = _live(plan, stack, view, meter, display, stop)
            except LakehouseError as error:
                failure = error
            finally:
                watcher.stop()
                meter.stop()
                view.activity = "stopping"
                display.say("stopping everything; a second Ctrl-C does it at once")
                ended = shut_down(stack, forced=lambda: stop.forced)
        if drained is not None:
            console.print(drained.render(view, meter.peak))
        console.print(_farewell(ended), highlight=False, soft_wrap=True)
        if failure is not None:
            raise failure
        return 1 if ended.left or (drained is not None and not drained.passed) else 0


def with_free_api_port(plan: Plan, say: Callable[[str], None]) -> Plan:
    """Return the plan with a free port for the HTTP API: the port of the settings, or another, which `say` tells."""
    wanted = plan.settings.serve_port
    if is_free(wanted):
        return plan
    port = free_port(frozenset({plan.settings.dagster_port}))
    say(f"port {wanted} is in use, so the API takes {port}; LAKEHOUSE_SERVE_PORT chooses another")
    return dataclasses.replace(plan, settings=plan.settings.model_copy(update={"serve_port": port}))


def preflight(plan: Plan, say: Callable[[str], None]) -> None:
    """Check and prepare everything that the first process needs: port, Java, jars, Kafka, folder.

    Missing jars are fetched, with those of the embedded broker if Kafka is not elsewhere; Kafka elsewhere gets the
    topics that it lacks. The folder is marked as demo or live, and the children's environment is saved in it. Processes
    that a killed stack left behind in it are ended; `say` gets a line then. Raises LakehouseError.
    """
    settings = plan.settings
    home = settings.home.absolute()
    require_free(settings.dagster_port, "Dagster's UI", "use --port PORT")
    require_allowed(settings)
    find_java(for_spark=True)
    if settings.bootstrap_servers:
        jars.jars("spark")
        ensure_topics(settings, timeout=BROKER_SECONDS)
    else:
        jars.jars("spark", "broker")
    child_commands.definitions_file()
    home_folder.claim(home, plan.kind)
    leftovers = marked_processes(home)
    if leftovers:
        say(f"ending {len(leftovers)} processes that an earlier start left behind")
        end_processes(leftovers, time.monotonic() + LEFTOVER_SECONDS)
    home_folder.save_environment(home, child_commands.environment(settings))


def _live(
    plan: Plan, stack: LocalStack, view: View, meter: MemoryMeter, display: Display, stop: StopRequests
) -> DrainReport | None:
    """Look after the stack until its minutes are over, then drain it; None if somebody asked to stop."""

    next_states = 0.0

    def tick() -> bool:
        nonlocal next_states
        stack.has_bars = view.first_bar_seconds is not None
        stack.tick()
        if time.monotonic() >= next_states:
            view.states = stack.states()
            next_states = time.monotonic() + STATES_SECONDS
        view.memory = meter.current
        display.tick()
        time.sleep(TICK_SECONDS)
        return not stop.asked

    ends_at = view.started + plan.minutes * 60 if plan.minutes is not None else float("inf")
    view.activity = "running"
    announced = False
    while time.monotonic() < ends_at:
        if not tick():
            return None
        if view.first_bar_seconds is not None and not announced:
            announced = True
            display.say(f"first bars after {view.first_bar_seconds:.0f} s")
    return drain_and_check(stack, view, tick, display.say)


def _farewell(ended: ShutdownReport) -> str:
    counts = Counter(ended.killed)
    killed = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in counts.items())
    return f"stopped in {ended.seconds:.1f} s; {f'had to kill {killed}; ' if killed else ''}{ended.left} processes left"


def _welcome(plan: Plan, view: View) -> str:
    settings = view.settings
    what = "a SIMULATED market, no real trades" if plan.kind == "demo" else f"live: {', '.join(settings.venues)}"
    elsewhere = {"Kafka": settings.bootstrap_servers, "tables": settings.lake_uri}
    where = "".join(f"; {name} at {place}" for name, place in elsewhere.items() if place)
    return f"{what}; Dagster UI {view.ui}; API {view.api}; data and logs in {settings.home.absolute()}{where}"
