"""Rebuild Silver on a Spark master, and print whether it is identical and which processes did the works.

`python -m tests.support.rebuild_probe UNITS` takes the settings from the environment; each file of Bronze is a unit,
and so many units are a batch. It prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

from pyspark.sql import SparkSession

from lakehouse.rebuild import silver
from lakehouse.rebuild.contents import contents
from lakehouse.settings import load_settings
from lakehouse.streams.tasks import Tasks


def main() -> None:
    """Rebuild, and watch the works."""
    jobs: list[dict[str, Any]] = []
    run = Tasks.run

    def watched(tasks: Tasks, units: Sequence[Any], work: Callable[[Any], Any], *undo: Any, **named: Any) -> Any:
        results = run(tasks, units, work, *undo, **named)
        processes = sorted({one.process for one in results if hasattr(one, "process")})
        told = sum(len(getattr(unit, "claims", ())) for unit in units)
        jobs.append({"work": work.__name__, "units": len(units), "told": told, "processes": processes})
        return results

    with (
        patch.object(Tasks, "run", watched),
        patch.object(silver, "contents", partial(contents, most=1, batch_units=int(sys.argv[1]))),
    ):
        report = silver.rebuild_silver(load_settings())
    print(json.dumps({"driver": os.getpid(), "identical": report.identical, "jobs": jobs, "rules": report.rules_after}))
    SparkSession.active().stop()


if __name__ == "__main__":
    main()
