"""The system under test, whichever way it was started: its processes, found by marker, and their end by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import psutil

from lakehouse.local_stack import home_folder
from lakehouse.local_stack.processes import MARKER, end_processes, marked_processes
from lakehouse.settings import Settings, load_settings
from tests.support.demo_tools import environment

#: Between two looks while waiting for something.
LOOK_SECONDS = 0.5
#: A part whose JVM must load and whose first batch is cold, on two cores that other work shares.
START_SECONDS = 240.0
#: Moves of the simulated market, over all assets: one a minute, so that the short runs have rows in gold/moves.
MOVES_PER_HOUR = "60"
#: Seconds for what is left over at the end to obey.
LEFTOVER_SECONDS = 8.0


class NotReached(AssertionError):  # noqa: N818 - a verdict, not an error of the suite
    """Something did not come to be in its time."""


class System(Protocol):
    """One lakehouse with a simulated exchange. All calls come from one thread."""

    @property
    def settings(self) -> Settings: ...

    @property
    def simulator_url(self) -> str: ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that may be killed, by name; of `plan.WEIGHTS`."""

    def start(self) -> None:
        """Start everything, and return once trades flow into Gold. Raises NotReached."""

    def look(self) -> None:
        """Do what has to be done between steps. Raises what makes going on useless."""

    def find(self, target: str) -> psutil.Process | None:
        """The target's process, None if it does not live at the moment."""

    def stop(self) -> None:
        """End everything in order. Raises AssertionError where something did not end, or is left over."""


def kill(process: psutil.Process, home: Path) -> bool:
    """SIGKILL to a process of this home, and to no other. False where it has ended meanwhile."""
    with contextlib.suppress(psutil.Error):
        if process.environ().get(MARKER) == str(home.absolute()):
            process.kill()  # psutil looks that the id was not given to somebody else
            return True
    return False


def java_below(process: psutil.Process | None) -> psutil.Process | None:
    """The JVM that a process has started."""
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True) if process is not None else ():
            if child.name() == "java" and child.status() != psutil.STATUS_ZOMBIE:
                return child
    return None


def alive(pid: int | None) -> psutil.Process | None:
    """The process of an id, None where it is gone or a zombie."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid is not None else None
        if process is not None and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def wait_for(what: str, done: Callable[[], object], seconds: float, look: Callable[[], None] = lambda: None) -> None:
    """Until `done()` is true, calling `look` in between. Raises NotReached."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise NotReached(f"{what}: not within {seconds:g} s")
        look()
        time.sleep(LOOK_SECONDS)


def child_variables(settings: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of a process under test: ours without our own settings, these, and the marker."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return environment(**settings, **{MARKER: str(home.absolute()), "PYTHONPATH": path})


def settings_of(home: Path) -> Settings:
    """The settings with which the lakehouse in `home` was started."""
    saved = home_folder.load_environment(home)
    prefix = "LAKEHOUSE_"
    values = {name.removeprefix(prefix).lower(): value for name, value in saved.items() if name.startswith(prefix)}
    return load_settings(**{**values, "home": home.absolute()})


def end_leftovers(home: Path) -> list[str]:
    """End every process that still carries this home's marker; what there was."""
    left = marked_processes(home)
    names = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            names.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
    end_processes(left, time.monotonic() + LEFTOVER_SECONDS)
    return names
