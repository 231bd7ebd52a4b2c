"""Run works over units: the only place that knows where works run.

A unit is a frozen value that can be pickled. A work is a pure function of a unit, but for the files that it writes; it
returns what is small. It may run twice (a task that is retried, a lost executor): files that no commit names are
removed by `file_retention`, and nothing else comes of it.
With a master outside this process every unit runs on executors, as a Spark task of its own. With one inside it, several
units are Spark tasks too, in Python processes that share no lock with this one or each other; a single unit, as a live
batch is, runs in this process: a task would only add its start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lakehouse.errors import LakehouseError, RetriableError, TerminalError, one_line
from lakehouse.runtime.code_version import code_version
from lakehouse.runtime.process_memory import collect_seldom, limit_heaps
from lakehouse.runtime.spark_session import build_session, is_in_process
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Failure:
    """An error of a work as a value. Spark would retry a task that raises, and hand on pages of its trace."""

    kind: type[LakehouseError]
    parts: tuple[str, str, str]

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        if isinstance(error, LakehouseError):
            return cls(type(error), (error.found, error.expected, error.remedy))
        return cls(RetriableError, (one_line(error), "", ""))


@dataclass(frozen=True)
class _Task(Generic[Unit, Result]):
    """A work as Spark's executors call it. `code` is the driver's version of the code."""

    work: Callable[[Unit], Result]
    code: str

    def __call__(self, unit: Unit) -> Result | _Failure:
        if code_version() != self.code:
            return _Failure(
                TerminalError,
                (
                    f"an executor has version {code_version()} of the lakehouse's code",
                    f"the driver's, {self.code}",
                    "give every machine the same version",
                ),
            )
        _prepare()
        try:
            return self.work(unit)
        except Exception as error:  # Spark must not try it again: the driver decides
            return _Failure.of(error)


@functools.cache
def _prepare() -> None:
    """Limit what a worker's process keeps in memory, and collect its garbage seldom: once for a process."""
    limit_heaps()
    collect_seldom()


@dataclass(frozen=True)
class Tasks:
    """Runs works where the settings say. `session` gives Spark's session to the first units that need one."""

    settings: Settings
    session: Callable[[Settings], SparkSession] = build_session

    def run(
        self, units: Sequence[Unit], work: Callable[[Unit], Result], undo: Callable[[Result], None] = lambda _: None
    ) -> list[Result]:
        """Return the result of `work` for each unit, in the order of the units.

        If a work fails, `undo` is called with the results of the others, and the first error is raised: RetriableError
        or TerminalError, as in the work; RetriableError for an error that is not ours.
        """
        if len(units) < 2 and is_in_process(self.settings):
            return [work(unit) for unit in units]
        if not units:
            return []
        task: Any = _Task(work, code_version())
        context = self.session(self.settings).sparkContext
        answers: list[Result | _Failure] = context.parallelize(units, len(units)).map(task).collect()
        results = [answer for answer in answers if not isinstance(answer, _Failure)]
        failures = [answer for answer in answers if isinstance(answer, _Failure)]
        if failures:
            for result in results:
                undo(result)
            raise failures[0].kind(*failures[0].parts)
        return results
