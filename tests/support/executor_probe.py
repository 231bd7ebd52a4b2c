"""Run the streams of Bronze, Silver and Gold on a Spark master, and print which processes did which work.

`python -m tests.support.executor_probe MESSAGES` takes the settings from the environment, and divides batches into
units of so many messages, so that a few messages are several units. It prints one line of JSON: the driver's process,
and for each unit the work, the number of files of other units that it was told of, the process that did it, and that
process's grandparent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pyspark.sql import SparkSession

from lakehouse.settings import load_settings
from lakehouse.streams.materialize import materialize
from lakehouse.streams.tasks import Tasks
from tests.support.small_units import small_units


def main() -> None:
    """Read everything there is, in units of the size that is asked for."""
    most = int(sys.argv[1])
    settings = load_settings()
    seen: list[list[Any]] = []
    run = Tasks.run

    def watched(tasks: Tasks, units: Sequence[Any], work: Callable[[Any], Any], *undo: Any, **named: Any) -> Any:
        results = run(tasks, units, work, *undo, **named)
        for unit, one in zip(units, results, strict=True):
            told = len(getattr(unit, "claims", ()))
            seen.append([work.__name__, told, one.process, _grandparent(one.process)])
        return results

    with patch.object(Tasks, "run", watched), small_units(most):
        materialize(settings)
    print(json.dumps({"driver": os.getpid(), "works": seen}))
    SparkSession.active().stop()


def _grandparent(process: int) -> list[Any]:
    """Return what started the daemon that a worker is forked from, an executor's JVM: its id and command line."""
    parent = _parent(_parent(process))
    return [parent, Path(f"/proc/{parent}/cmdline").read_text().replace("\0", " ")]


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


if __name__ == "__main__":
    main()
