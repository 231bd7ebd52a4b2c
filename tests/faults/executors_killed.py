"""kill -9 of executors, Python workers and drivers in the middle of a catch-up on executors; then exact tables.

    python -m tests.faults.executors_killed --seed 1 --kills 10 --messages 500000

A topic of trades with repeats, conflicts and junk is read twice, on a Kafka of its own: undisturbed with `local[2]`,
and on two executors in processes of their own, in small batches of small units. The seed says what is killed in the
second, and how far it has come by then. Spark tries the tasks of a lost executor or worker again; a killed driver is
started again at once. Every table of both lakes has to be equal, the audit exact, and nothing left running.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.lake import table_io
from lakehouse.local_stack.processes import Child, ChildSpec, last_line, marked_processes
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import OPS_BATCHES
from tests.faults import killed_lake
from tests.faults.executor_processes import cpu_seconds, is_executor, is_worker, lives, writer_among
from tests.faults.system import NotReached, child_variables, end_leftovers
from tests.support.small_units import small_units

#: Two executors of one core each, in processes of their own.
EXECUTORS = "local-cluster[2,1,1024]"
TARGETS = ("executor", "worker", "driver")
#: Part of all rows, over the three layers, by which the last kill has come.
LAST_KILL = 0.65
#: Seconds for the next kill to come up, for the processes of a killed driver to end, and for a whole catch-up.
NEXT_SECONDS, GONE_SECONDS, CATCH_UP_SECONDS = 300.0, 30.0, 1_800.0
#: Seconds between two looks at the progress.
LOOK_SECONDS = 0.3
#: Seconds for a worker to begin a file.
WRITING_SECONDS = 3.0

Say = Callable[[str], None]


class Kill(NamedTuple):
    """A kill of `target` once so much of the rows (0 to 1) is read; if `writing`, while a worker writes a file.

    If no worker does so within WRITING_SECONDS (works of Gold write none), it is killed all the same.
    """

    target: str
    progress: float
    writing: bool


def plan(seed: int, kills: int) -> list[Kill]:
    """Each target has its turn before one has it twice; the kills are spread over the catch-up."""
    rng, deck, made = Random(seed), list[str](), list[Kill]()
    for number in range(kills):
        deck = deck or rng.sample(TARGETS, len(TARGETS))
        made.append(Kill(deck.pop(), LAST_KILL * (number + rng.random()) / kills, rng.random() < 0.7))
    return made


@dataclass
class Figures:
    """Figures of a run. `failures` is empty where everything is exact."""

    seed: int
    messages: int
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    while_writing: int = 0  #: kills while a worker had a data file open
    driver_starts: int = 0
    longest_end_seconds: float = 0.0  #: from a driver's death to the end of all processes that it had started
    undisturbed_seconds: float = 0.0
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)  #: by table, equal in both lakes
    files_of_nobody: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


class CatchUp:
    """The command `lakehouse stream --trigger available-now` on executors, which is started again after its death."""

    def __init__(self, settings: Settings, unit: int, figures: Figures) -> None:
        self._settings, self._figures = settings, figures
        words = ("--drive", str(unit), "stream", "--trigger", "available-now")
        command = (sys.executable, "-m", "tests.faults.executors_killed", *words)
        variables = child_variables(settings.environment(), settings.home)
        self._spec = ChildSpec("driver", command, variables, settings.home / "logs" / "driver.log")
        self._dying: list[tuple[float, list[psutil.Process]]] = []
        self.child = self._start()

    def _start(self) -> Child:
        self._figures.driver_starts += 1
        return Child(self._spec)

    def rows_read(self) -> int:
        """Sum of the rows that the batches of all layers have read."""
        found = table_io.sql(self._settings, "SELECT coalesce(sum(rows_in), 0) AS n FROM b", b=OPS_BATCHES)
        return int(found.column(0)[0].as_py())

    def look(self) -> bool:
        """Return True if it has come to its end. Raises NotReached if it ended by itself in another way."""
        for began, processes in list(self._dying):
            left = [one for one in processes if lives(one)]
            seconds = time.monotonic() - began
            if left and seconds < GONE_SECONDS:
                continue
            self._dying.remove((began, processes))
            self._figures.longest_end_seconds = max(self._figures.longest_end_seconds, round(seconds, 1))
            for one in left:
                self._figures.failures.append(f"{one} outlived its killed driver by {seconds:.0f} s")
                one.kill()
        code = self.child.exit_code()
        if code:
            raise NotReached(f"the driver ended with {code}: {last_line(self._spec.log)}")
        return code == 0 and not self._dying

    def kill(self, kill: Kill) -> str:
        """Wait for the moment of a kill, and do it. Returns what was killed and when. Raises NotReached."""
        began = time.monotonic()
        deadline, writing_until = began + NEXT_SECONDS, began + WRITING_SECONDS * kill.writing
        while time.monotonic() < deadline:
            if self.look():
                raise NotReached("the catch-up ended before the last kill")
            processes = psutil.Process(self.child.pid).children(recursive=True)
            workers = [one for one in processes if is_worker(one)]
            writer = writer_among(workers) if time.monotonic() < writing_until else None
            if writer is None and time.monotonic() < writing_until:
                continue
            victim = self._victim(kill.target, writer or max(workers, key=cpu_seconds, default=None))
            if victim is None:
                continue
            name = f"{kill.target} {victim.pid}{' while a worker wrote a file' if writer else ''}"
            self._figures.kills[kill.target] += 1
            self._figures.while_writing += writer is not None
            victim.kill()  # psutil looks that the id was not given to somebody else
            if kill.target == "driver":
                self._dying.append((time.monotonic(), processes))
                self.child.wait(10.0)
                self.child = self._start()
            return name
        raise NotReached(f"no {kill.target} to kill within {NEXT_SECONDS:g} s")

    def _victim(self, target: str, worker: psutil.Process | None) -> psutil.Process | None:
        try:
            if worker is None or target == "worker":
                return worker
            if target == "driver":
                return psutil.Process(self.child.pid)
            return next(one for one in worker.parents() if is_executor(one))
        except (psutil.Error, StopIteration):  # it has ended meanwhile
            return None

    def end(self) -> None:
        """End the driver if it still runs, and wait for what it has started; what is left then is ended, a failure."""
        self.child.signal(signal.SIGKILL)
        deadline = time.monotonic() + GONE_SECONDS
        while marked_processes(self._settings.home) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if left := end_leftovers(self._settings.home):
            self._figures.failures.append(f"left running: {'; '.join(left)}")


def storm(settings: Settings, unit: int, kills: Sequence[Kill], figures: Figures, say: Say) -> None:
    """Catch up on executors under fire. Raises NotReached."""
    table_io.ensure_tables(settings)
    began, total = time.monotonic(), 3 * figures.messages
    catch_up = CatchUp(settings, unit, figures)
    try:
        for kill in kills:
            while (rows := catch_up.rows_read()) < kill.progress * total:
                if catch_up.look():
                    raise NotReached("the catch-up ended before the last kill")
                time.sleep(LOOK_SECONDS)
            victim = catch_up.kill(kill)
            say(f"killed {victim}, after {rows:,} of about {total:,} rows")
        while not catch_up.look():
            if time.monotonic() - began > CATCH_UP_SECONDS:
                raise NotReached(f"the catch-up had not ended after {CATCH_UP_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        figures.seconds = round(time.monotonic() - began, 1)
    finally:
        catch_up.end()


def run(home: Path, bootstrap: str, seed: int, kills: int, messages: int, batch: int, unit: int, say: Say) -> Figures:
    """All of it on a Kafka; what is wrong is in `failures`. `batch` and `unit` are most messages of these."""
    figures = Figures(seed, messages)
    name = f"killed-{seed}-{time.time_ns()}"
    topics = {f"topic_{kind}": f"{name}-{kind}" for kind in ("trades", "rejected", "feed_events")}
    calm = load_settings(
        home=home / "calm",
        bootstrap_servers=bootstrap,
        max_offsets_per_trigger=batch,
        spark_master="local[2]",
        **topics,
    )
    fire = calm.model_copy(update={"home": (home / "fire").absolute(), "spark_master": EXECUTORS})
    ensure_topics(calm)
    killed_lake.fill(calm, seed, messages)
    say(f"{messages:,} messages are in Kafka")
    try:
        figures.undisturbed_seconds = killed_lake.catch_up(calm)
        say(f"undisturbed on local[2]: {figures.undisturbed_seconds:.1f} s")
        storm(fire, unit, plan(seed, kills), figures, say)
        say(f"caught up after {figures.seconds:.1f} s")
        figures.rows, unlike = killed_lake.compare(calm, fire)
        figures.failures += unlike
        figures.files_of_nobody = killed_lake.delete_files_of_nobody(fire)
        killed_lake.assert_audit(fire)
    except AssertionError as error:
        figures.failures.append(str(error))
    return figures


def drive(unit: int, command: Sequence[str]) -> None:
    """Be the driver: `lakehouse COMMAND…`, in units of up to `unit` messages."""
    from lakehouse.cli import main as lakehouse

    sys.argv = ["lakehouse", *command]
    with small_units(unit):
        lakehouse()


def main(arguments: list[str] | None = None) -> int:
    """Run it once. Exit code 0 where every table is exact."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.executors_killed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--drive", type=int, metavar="UNIT", help="be the driver of the command that follows")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10, help="(default 10)")
    parser.add_argument("--messages", type=int, default=500_000, help="(default 500000)")
    parser.add_argument("--batch", type=int, default=25_000, help="most messages of a batch (default 25000)")
    parser.add_argument("--unit", type=int, default=5_000, help="most messages of a unit (default 5000)")
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/faults/executors"))
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a lakehouse command, with --drive")
    options = parser.parse_args(arguments)
    if options.drive:
        drive(options.drive, options.command)
        return 0
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    home = options.folder.absolute()
    shutil.rmtree(home, ignore_errors=True)
    with EmbeddedBroker(load_settings(home=home / "kafka")) as broker:
        figures = run(
            *(home, broker.bootstrap, options.seed, options.kills, options.messages),
            *(options.batch, options.unit, say),
        )
    shown: dict[str, Any] = asdict(figures)
    print(json.dumps(shown, indent=1))
    if not figures.failures:
        shutil.rmtree(home)
    print("passed" if not figures.failures else f"FAILED ({len(figures.failures)}); everything is kept in {home}")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
