"""The arithmetic of a run on executors: its window, CPU within it, memory along it. Pure.

The window begins as Bronze commits its first batch and ends as Gold commits its last. Work within it is always the
same, whatever the layers' pace: Bronze's from the second batch on, all of Silver's and Gold's. Messages counted are
those of Bronze's batches from the second on, so the costs of a message are a little more than the truth, alike with any
number of executors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any, NamedTuple

from benchmarks.figures import Spread, spread

#: Roles of processes. The driver's JVM is also Spark's master and workers, which have little to do.
DRIVER = ("driver Python", "driver JVM")
EXECUTORS = ("executors' JVMs", "executors' Python")
BROKER = "broker"
ROLES = (*DRIVER, *EXECUTORS, BROKER)

#: Parts of the trades in Gold at which the driver's memory is told.
MARKS = (0.1, 0.5, 1.0)


class Sample(NamedTuple):
    """One look at all processes of a run, at `at` seconds since 1970."""

    at: float
    cpu: dict[str, float]  #: role → CPU seconds since its processes began
    pss: dict[str, int]  #: role of the driver → bytes; empty if it was not looked at
    strays: int  #: threads of executors that were not on their core


class Window(NamedTuple):
    """Measured part of a run, in seconds since 1970. Each mark has the times from and to which it takes samples."""

    begin: float
    end: float
    messages: int
    batches: int  #: of Bronze, within the window
    marks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ScaleRun:
    """One catch-up on some executors. Seconds, bytes; CPU by role within the window, memory by mark and role."""

    round: int
    partitions: int
    symbols: int
    executors: int
    all_messages: int
    trades: int  #: distinct ones
    messages: int = 0  #: within the window
    batches: int = 0
    seconds: float = 0.0
    whole_seconds: float = 0.0  #: of the process, with its start and end
    cpu: Mapping[str, float] | None = None
    pss: Sequence[Mapping[str, int]] = ()
    silver_rows: int | None = None
    bar_trades: int | None = None
    error: str = ""  #: empty if it ended well

    @property
    def case(self) -> tuple[int, int, int]:
        """Its line of the table."""
        return self.partitions, self.symbols, self.executors

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    def micros(self, *roles: str) -> float:
        """CPU microseconds a message of some roles."""
        return sum((self.cpu or {}).get(role, 0.0) for role in roles) / self.messages * 1e6

    @property
    def cpu_micros(self) -> float:
        """CPU microseconds a message of all processes but the broker."""
        return self.micros(*DRIVER, *EXECUTORS)

    @property
    def driver_share(self) -> float:
        """The driver's part of that CPU."""
        return self.micros(*DRIVER) / self.cpu_micros


def window_of(batches: Sequence[Mapping[str, Any]]) -> Window:
    """Find the window from rows of ops/batches. Raises ValueError if Bronze has less than two batches, or Gold none."""
    bronze, gold = (_of(batches, query) for query in ("bronze", "gold"))
    if len(bronze) < 2 or not gold:
        raise ValueError(f"{len(bronze)} batches of Bronze, {len(gold)} of Gold; expected two and one, or more")
    times: list[float] = [row["committed_at"].timestamp() for row in gold]
    done = list(accumulate(row["rows_in"] for row in gold))
    begin: float = bronze[0]["committed_at"].timestamp()

    def reached(part: float) -> float:
        return times[bisect_left(done, part * done[-1])] if part > 0 else begin

    marks = tuple((reached(mark - 0.1), reached(mark)) for mark in MARKS)
    return Window(begin, times[-1], sum(row["rows_in"] for row in bronze[1:]), len(bronze) - 1, marks)


def _of(batches: Sequence[Mapping[str, Any]], query: str) -> list[Mapping[str, Any]]:
    return sorted((row for row in batches if row["query"] == query), key=lambda row: row["batch_id"])


def cpu_within(samples: Sequence[Sample], begin: float, end: float) -> dict[str, float]:
    """Return role → CPU seconds from `begin` to `end`; between two samples CPU is taken to grow evenly."""
    return {role: _cpu_at(samples, role, end) - _cpu_at(samples, role, begin) for role in ROLES}


def _cpu_at(samples: Sequence[Sample], role: str, at: float) -> float:
    after = bisect_left(samples, at, key=lambda sample: sample.at)
    if after == 0 or after == len(samples):
        return samples[min(after, len(samples) - 1)].cpu.get(role, 0.0)
    left, right = samples[after - 1], samples[after]
    one, two = left.cpu.get(role, 0.0), right.cpu.get(role, 0.0)
    return one + (two - one) * (at - left.at) / (right.at - left.at)


def pss_along(samples: Sequence[Sample], marks: Sequence[tuple[float, float]]) -> list[dict[str, int]]:
    """Return, for each mark, role of the driver → median bytes of its samples, or of the newest before if it has none.

    Medians, since the memory of a running batch goes up and down by more than what a driver could keep.
    """
    seen = [sample for sample in samples if sample.pss]
    found = []
    for begin, end in marks:
        here = [one for one in seen if begin <= one.at <= end]
        here = here or [one for one in seen if one.at <= end][-1:] or seen[:1]
        found.append({role: int(median(one.pss.get(role, 0) for one in here)) for role in DRIVER if here})
    return found


def strays_within(samples: Sequence[Sample], begin: float, end: float) -> int:
    """Return how many times a thread of an executor was found off its core within the window."""
    return sum(sample.strays for sample in samples if begin <= sample.at <= end)


def to_first(runs: Sequence[ScaleRun], case: tuple[int, int, int], first: int, figure: str) -> Spread | None:
    """Ratio of a figure (a property of ScaleRun) to that with `first` executors, paired within each round."""
    good = {(run.round, run.case): float(getattr(run, figure)) for run in runs if not run.error}
    base = (*case[:2], first)
    rounds = sorted({run.round for run in runs})
    return spread(good[one, case] / good[one, base] for one in rounds if {(one, case), (one, base)} <= good.keys())
