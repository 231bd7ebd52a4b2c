"""A Silver stream driven as Spark would, in this process or with works as on executors, and what it has written.

No test module.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from lakehouse.continuity.ledger import Ledger
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import silver
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import SILVER_TRADES, Table


class Executors:
    """Spark, as far as `Tasks` asks for it: works run here, one after the other; what is sent is pickled.

    `seen` has the units and what came of them, `jobs` the number of units of each job. With `twice` each work runs
    twice, and its first result is lost.
    """

    def __init__(self, twice: bool = False) -> None:
        self.seen: list[tuple[Any, Any]] = []
        self.jobs: list[int] = []
        self.twice = twice
        self.before: Callable[[list[Any]], object] = lambda _: None  #: called before the units of a job
        self.sparkContext = self
        self._units: list[Any] = []
        self._task: Callable[[Any], Any] = lambda unit: unit

    def parallelize(self, units: list[Any], slices: int) -> Executors:
        assert len(units) == slices
        self.before(units)
        self.jobs.append(slices)
        self._units = pickle.loads(pickle.dumps(units))
        return self

    def map(self, task: Callable[[Any], Any]) -> Executors:
        self._task = pickle.loads(pickle.dumps(task))
        return self

    def collect(self) -> list[Any]:
        answers = []
        for unit in self._units:
            if self.twice:
                self._task(unit)
            answers.append(pickle.loads(pickle.dumps(self._task(unit))))
            self.seen.append((unit, answers[-1]))
        return answers


def tasks_of(settings: Settings, executors: Executors | None = None) -> Tasks:
    """Tasks whose works run as with a master in this process, or as on executors."""
    master = "local[2]" if executors is None else "local-cluster[2,1,1024]"
    spark: Any = executors or Executors()
    return Tasks(settings.model_copy(update={"spark_master": master}), lambda _: spark)


class Stream:
    """A Silver stream, as Spark would drive it: its batches end at versions of Bronze."""

    def __init__(self, settings: Settings, executors: Executors | None = None) -> None:
        self.settings = settings
        self._tasks = tasks_of(settings, executors)
        self._checkpoint = Checkpoint(f"{settings.checkpoints}/silver")
        self._number = -1
        self._ledger = Ledger(settings)

    def batch(self, version: int) -> BatchResult:
        """Run the next batch, up to a version of Bronze."""
        self._number += 1
        offset = '{"reservoirVersion": %d, "index": -1, "isStartingVersion": false}' % (version + 1)  # noqa: UP031
        self._checkpoint.write(f"offsets/{self._number}", f"v1\n{{}}\n{offset}")
        return self._run(None)

    def again(self) -> BatchResult:
        """Run the last batch once more in a new process, which does not know how far the old one came."""
        self._ledger = Ledger(self.settings)
        return self._run(self._number)

    def _run(self, pending: int | None) -> BatchResult:
        context = BatchContext(self.settings, "silver", self._checkpoint, "g", pending, "run", lambda _: None)
        return silver.write_batch(self._number, context, self._ledger, self._tasks)


def copied(settings: Settings, name: str) -> Settings:
    """A lake with the same Bronze, whose Silver is empty."""
    home = settings.home.with_name(name)
    shutil.copytree(settings.home, home)
    return settings.model_validate(settings.model_dump() | {"home": home})


def rows(settings: Settings, table: Table) -> list[dict[str, Any]]:
    names = [name for name in table.column_names if name not in {"since", "trades_version"}]
    order = ", ".join(table.key)
    found: list[dict[str, Any]] = table_io.sql(
        settings, f"SELECT {', '.join(names)} FROM t ORDER BY {order}", t=table
    ).to_pylist()
    return found


def counts(result: BatchResult) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(result).items() if name != "versions"}


def unnamed(settings: Settings) -> list[Path]:
    """Data files of silver/trades that its newest version does not name."""
    uri = table_io.table_uri(settings, SILVER_TRADES)
    named = set(DeltaTable(uri).file_uris())
    return [path for path in Path(uri).rglob("*.parquet") if str(path) not in named]
