"""Run works over units: the only place that knows where works run.

A unit is a frozen value that can be pickled. A work is a pure function of a unit, but for the files that it writes; it
returns what is small. It may run twice (a task that is retried, a lost executor): files that no commit names are
removed by `file_retention`, and nothing else comes of it.
With a master outside this process every unit runs on executors, as a Spark task of its own. Otherwise works run here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lakehouse.errors import LakehouseError, RetriableError, TerminalError, one_line
from lakehouse.runtime.code_version import code_version
from lakehouse.runtime.spark_session import is_in_process
from lakehouse.settings import Settings
from lakehouse.streams.side_by_side import in_order

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
        try:
            return self.work(unit)
        except Exception as error:  # Spark must not try it again: the driver decides
            return _Failure.of(error)


@dataclass(frozen=True)
class Tasks:
    """Where the works of one Spark application run."""

    spark: SparkSession
    settings: Settings

    @property
    def are_outside(self) -> bool:
        """True if works run on executors, in other processes."""
        return not is_in_process(self.settings)

    def run(
        self, units: Sequence[Unit], work: Callable[[Unit], Result], undo: Callable[[Result], None] = lambda _: None
    ) -> list[Result]:
        """Return the result of `work` for each unit, in the order of the units.

        If a work fails, `undo` is called with the results of the others, and the first error is raised: RetriableError
        or TerminalError, as in the work; RetriableError for an error that is not ours.
        """
        if not self.are_outside:
            return list(in_order(work, units))
        if not units:
            return []
        task: Any = _Task(work, code_version())
        answers: list[Result | _Failure] = self.spark.sparkContext.parallelize(units, len(units)).map(task).collect()
        results = [answer for answer in answers if not isinstance(answer, _Failure)]
        failures = [answer for answer in answers if isinstance(answer, _Failure)]
        if failures:
            for result in results:
                undo(result)
            raise failures[0].kind(*failures[0].parts)
        return results
