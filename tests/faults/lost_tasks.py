"""Tasks on executors whose work is done and lost: a task that runs twice, a lost worker's files, a lost executor's.

    python -m tests.faults.lost_tasks

The first task of every job is done whole, its files are written, and then its answer is lost: by an error behind it
(`twice`), or because its worker (`worker`) or its executor (`executor`) is killed. Spark does the task again, on the
same data. `lakehouse stream` goes on to its end, every table is exact, and nothing comes of the first files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings
from tests.faults.executors_killed import EXECUTORS
from tests.faults.hooks import UNIT_MESSAGES
from tests.faults.kill_points import Rounds, assert_exact, assert_nothing_wrong_so_far
from tests.faults.killed_lake import WORKS, delete_files_of_nobody, files_of_nobody
from tests.faults.system import child_variables
from tests.support.small_units import small_units

#: Seconds of a catch-up on executors of which each job loses one.
CATCH_UP_SECONDS = 300.0


def _raise() -> None:
    raise ConnectionResetError("the answer of this task is lost")


def _kill_worker() -> None:
    psutil.Process().kill()


def _kill_executor() -> None:
    """Kill the JVM that started the daemon from which this worker is forked."""
    psutil.Process().parents()[1].kill()


LOSSES: dict[str, Callable[[], None]] = {"twice": _raise, "worker": _kill_worker, "executor": _kill_executor}


@dataclass(frozen=True)
class Losing:
    """A task whose answer is lost the first time it runs, if it is its job's first."""

    task: Callable[[Any], Any]
    loss: str

    def __call__(self, unit: Any) -> Any:
        from pyspark import TaskContext

        answer = self.task(unit)
        context = TaskContext.get()
        if context is not None and context.partitionId() == 0 and context.attemptNumber() == 0:
            LOSSES[self.loss]()
        return answer


def drive(loss: str, command: Sequence[str]) -> None:
    """Be the driver of `lakehouse COMMAND…`, each job of which loses a task's answer."""
    from pyspark import RDD

    from lakehouse.cli import main as lakehouse
    from lakehouse.streams import tasks

    original = RDD.map

    def losing(rdd: Any, task: Any, *more: Any, **named: Any) -> Any:
        is_ours = isinstance(task, tasks._Task)
        return original(rdd, Losing(task, loss) if is_ours else task, *more, **named)

    RDD.map = losing  # type: ignore[method-assign, assignment]
    sys.argv = ["lakehouse", *command]
    with small_units(UNIT_MESSAGES):
        lakehouse()


def run(settings: Settings, losses: Sequence[str], say: Any = print) -> None:
    """Every loss on one lake, whose topics are there. AssertionError where a table is not exact."""
    settings = settings.model_copy(update={"spark_master": EXECUTORS})
    rounds = Rounds(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    before = dict.fromkeys(WORKS, 0)
    for loss in losses:
        rounds.send_next()
        _catch_up(settings, loss)
        assert_nothing_wrong_so_far(settings, rounds.truth, loss)
        for table in WORKS:
            left = len(files_of_nobody(settings, table))
            assert left > before[table], f"{loss}: no file of a lost task is left in {table.path}"
            before[table] = left
        say(f"{loss}: {', '.join(f'{table.path} has {before[table]} files of nobody' for table in WORKS)}")
    assert_exact(settings, rounds.truth)
    delete_files_of_nobody(settings)
    assert_exact(settings, rounds.truth)


def _catch_up(settings: Settings, loss: str) -> None:
    command = ("stream", "--trigger", "available-now")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.lost_tasks", "--at", loss, *command],
        env=child_variables(settings.environment(), settings.home),
        capture_output=True,
        text=True,
        timeout=CATCH_UP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{loss}: the stream ended with {done.returncode}: {done.stderr[-1_000:]}"


def main(arguments: list[str] | None = None) -> int:
    """With `--at LOSS`: be the driver. Else run every loss, on a Kafka and a lake of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.lost_tasks", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--at", choices=list(LOSSES), help="lose so in the command that follows")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a lakehouse command, with --at")
    options = parser.parse_args(arguments)
    if options.at:
        drive(options.at, options.command)
        return 0
    with tempfile.TemporaryDirectory(prefix="lost-tasks-") as folder:
        home = Path(folder)
        with EmbeddedBroker(load_settings(home=home / "kafka")) as broker:
            settings = load_settings(home=home / "lake", bootstrap_servers=broker.bootstrap)
            ensure_topics(settings)
            run(settings, list(LOSSES))
    print(f"{len(LOSSES)} losses, every table exact")
    return 0


if __name__ == "__main__":
    sys.exit(main())
