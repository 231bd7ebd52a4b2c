"""Land messages on the executors of a Spark master, and print which processes did it. Run as a process of its own.

`python -m tests.support.executor_probe` takes the settings from the environment. It prints one line of JSON: the
driver's process, and for each unit the process that worked and the command line of that process's grandparent. Nothing
is committed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from lakehouse.broker.offset_ranges import OffsetRange
from lakehouse.lake import table_io
from lakehouse.lake.lag import end_offsets
from lakehouse.runtime.spark_session import build_session
from lakehouse.settings import load_settings
from lakehouse.streams import landing
from lakehouse.streams.landing import Landed, LandUnit
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import BRONZE_MESSAGES


def main() -> None:
    """Land all messages of the trades' topic in units of 100."""
    settings = load_settings()
    ends = end_offsets(settings.bootstrap(), settings.topics, 10.0)[settings.topic_trades]
    ranges = [OffsetRange(settings.topic_trades, int(number), 0, end) for number, end in ends.items()]
    table_io.ensure_tables(settings)
    units = landing.units_of(settings, ranges, most=100)
    spark = build_session(settings)
    seen = Tasks(spark, settings).run(units, land_and_tell)
    for landed, _ in seen:
        landing.undo(table_io.table_uri(settings, BRONZE_MESSAGES), landed)
    print(json.dumps({"driver": os.getpid(), "workers": [[landed.process, parent] for landed, parent in seen]}))
    spark.stop()


def land_and_tell(unit: LandUnit) -> tuple[Landed, str]:
    """Land a unit, and say what started the daemon that this worker is forked from: an executor's JVM."""
    parent = _parent(os.getppid())
    return landing.land(unit), Path(f"/proc/{parent}/cmdline").read_text().replace("\0", " ")


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


if __name__ == "__main__":
    main()
