"""Sample the memory of a whole lakehouse, for the report at the end of `lakehouse demo --minutes N`.

RSS counts shared pages once per process; PSS splits them, so its sum is the memory that the lakehouse really takes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lakehouse.local_stack.processes import marked_processes

#: Seconds between two samples. The kernel walks all pages of a process for its PSS: once a second takes 4 % of a core.
SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class Memory:
    """Memory of some processes in bytes (RSS and PSS, summed up), and their number; `pss` is 0 if it is unknown."""

    rss: int = 0
    pss: int = 0
    processes: int = 0


def measure(processes: Iterable[psutil.Process]) -> Memory:
    """Return the memory (RSS and PSS) that processes take now, summed up.

    Processes that end meanwhile are left out, and children of a JVM that are just being spawned.
    """
    rss = pss = count = 0
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            if _is_being_spawned(process):
                continue
            rss += process.memory_info().rss
            pss += _pss(process.pid)
            count += 1
    return Memory(rss, pss, count)


def _is_being_spawned(process: psutil.Process) -> bool:
    """Return True between vfork and exec: a JVM's child then shares its parent's memory, which would count twice."""
    parent = process.parent()
    return (
        parent is not None
        and process.name() == "java" == parent.name()
        and process.memory_info().vms == parent.memory_info().vms
    )


def _pss(pid: int) -> int:
    # psutil reads the full smaps, tens of milliseconds for a JVM; the kernel's own sum is one short file.
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024


class MemoryMeter:
    """Samples this process and all others of its lakehouse every SAMPLE_SECONDS, in a thread.

    `current` is the newest sample; `peak` has the highest RSS, PSS and number of processes, each by itself.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-meter", daemon=True)
        self.current = Memory()
        self.peak = Memory()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.current = now = measure((psutil.Process(), *marked_processes(self._home)))
            peak = self.peak
            self.peak = Memory(max(peak.rss, now.rss), max(peak.pss, now.pss), max(peak.processes, now.processes))
