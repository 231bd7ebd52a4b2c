"""A day rebuilt while the stream writes the same day: must end right, every time.

    python -m tests.support.rebuild_beside_stream --times 20 --rate 1000

Simulator, Kafka, ingest and stream as plain commands (tests/faults/light_system.py); `lakehouse rebuild gold` of today,
again and again, in a process of its own. Every other time rows of Gold are damaged first. Then the market halts,
everything drains, and the verdict is that of the fault suite: Silver equals the exchange's record, the bars their fold,
every check passes, the audit is exact.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError
from lakehouse.lake.lease import Turn
from lakehouse.lake.table_io import active_tables, open_table
from lakehouse.settings import Settings
from tests.faults.admin import Admin
from tests.faults.light_system import LightSystem
from tests.faults.quiet import quiet
from tests.faults.system import child_variables, end_leftovers
from tests.faults.verdict import judge

REBUILD_SECONDS = 300.0
DRAIN_SECONDS = 300.0


def damage(settings: Settings, rng: random.Random) -> str:
    """Delete the rows of a venue, or a base asset, from a table of Gold, in a turn; which table."""
    table = rng.choice([table for table in active_tables(settings) if table.layer == "gold"])
    first = table.key[0]
    value = rng.choice(settings.venues) if first == "venue" else settings.symbols[0].partition("/")[0]
    with Turn(settings, "gold"):
        open_table(settings, table).delete(f"{first} = '{value}'")
    return f"{table.path} without {value}"


def rebuild(settings: Settings) -> str:
    """`lakehouse rebuild gold` of today and yesterday; what it said last."""
    today = dt.datetime.now(dt.UTC).date()
    days = ("--from", str(today - dt.timedelta(days=1)), "--to", str(today))
    done = subprocess.run(
        [sys.executable, "-m", "lakehouse", "rebuild", "gold", *days, "--home", str(settings.home)],
        capture_output=True,
        text=True,
        timeout=REBUILD_SECONDS,
        check=False,
        env=child_variables(settings.environment(), settings.home),
    )
    if done.returncode:
        raise AssertionError(f"rebuild ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().replace("\n", "; ")


def main(arguments: list[str] | None = None) -> int:
    """Run it. Exit code 0 where everything is exact at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.rebuild_beside_stream", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000.0, help="trades per second (default 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/rebuild-beside-stream"))
    options = parser.parse_args(arguments)
    rng, home, began = random.Random(options.seed), options.folder.absolute(), time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    shutil.rmtree(home, ignore_errors=True)
    system = LightSystem(home, options.rate)
    failures: list[str] = []
    try:
        system.start()
        admin = Admin(system.simulator_url)
        for number in range(options.times):
            system.look()
            if number % 2:
                say(f"damaged: {damage(system.settings, rng)}")
            say(f"rebuild {number + 1}: {rebuild(system.settings)}")
        drained = quiet(system, admin, DRAIN_SECONDS)
        failures += drained.left
        verdict = judge(system.settings, admin.done())
        failures += verdict.failures
        say(f"{verdict.figures.made:,} trades made, {verdict.figures.compared:,} equal, {verdict.figures.bars:,} bars")
        admin.close()
    except (AssertionError, LakehouseError, DeltaError, OSError, subprocess.TimeoutExpired) as error:
        failures.append(f"{type(error).__name__}: {error}")
    finally:
        system.stop()
        end_leftovers(home)
    for failure in failures:
        print(failure)
    print("FAILED" if failures else f"passed: {options.times} rebuilds beside the stream, every table exact")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
