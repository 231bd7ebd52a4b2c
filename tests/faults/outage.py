"""Measured: every socket is away for 60 s at 500 trades/s. How soon after the reconnect is all of it in Silver?

    python -m tests.faults.outage [--seconds 60] [--rate 500] [--within 60]

Passes where the ledger of Silver has no open gap within `--within` seconds of the reconnect, no venue was asked for
more than its published budget or refused a request, and the tables equal the record afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.continuity import gaps
from tests.faults.admin import Admin
from tests.faults.light_system import LightSystem
from tests.faults.plan import Fault
from tests.faults.quiet import newest, quiet, unheard
from tests.faults.scenario import EXPECTED, Say
from tests.faults.system import System, end_leftovers, wait_for
from tests.faults.verdict import judge

#: Seconds of trading before the outage, so that the streams are warm.
WARM_SECONDS = 15.0
#: Between two looks at the ledger, in seconds: how exact the measurement is.
LOOK_SECONDS = 0.5
#: Seconds for the first socket to come back after the outage: the longest pause of the backoff, and some more.
RECONNECT_SECONDS = 60.0


@dataclass
class Measured:
    """In seconds, but for `missed` (trades made during the outage) and `rest` (venue → what the simulator counted)."""

    seconds: float
    rate: float
    missed: int = 0
    reconnected_after: float = 0.0  #: from the end of the outage to a subscriber for every symbol
    repaired_after: float = 0.0  #: from there to a ledger without an open gap
    rest: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def measure(system: System, measured: Measured, within: float, say: Say) -> None:
    """Do it on a started system; what failed is in `measured.failures`."""
    admin = Admin(system.simulator_url)
    try:
        time.sleep(WARM_SECONDS)
        before = newest(admin)
        began = time.monotonic()
        admin.begin(Fault("outage", None, None, measured.seconds, 1.0))
        while time.monotonic() - began < measured.seconds:
            system.look()
            time.sleep(LOOK_SECONDS)
        at_end, ended = newest(admin), time.monotonic()
        measured.missed = sum(at_end[key] - before[key] for key in at_end)
        say(f"the outage is over; about {measured.missed:,} trades were missed")

        wait_for("a subscriber for every symbol", lambda: not unheard(admin), RECONNECT_SECONDS, system.look)
        back, reconnected = newest(admin), time.monotonic()
        measured.reconnected_after = round(reconnected - ended, 1)
        # Twice the limit, so that a failure has a figure.
        wait_for("the repair", _is_repaired(system, back), 2 * within, system.look)
        measured.repaired_after = round(time.monotonic() - reconnected, 1)
        say(f"reconnected after {measured.reconnected_after:g} s, repaired {measured.repaired_after:g} s later")
        if measured.repaired_after > within:
            measured.failures.append(f"repaired {measured.repaired_after:g} s after the reconnect; expected {within:g}")

        measured.rest = admin.status()["rest"]
        for venue, use in measured.rest.items():
            if use["peak_share"] > 1 or use["limited"] or use["banned"]:
                measured.failures.append(f"{venue}: more requests than its budget: {use}")
        drain = quiet(system, admin, 120.0)
        if drain.left:
            measured.failures.append(f"not drained: {'; '.join(drain.left[:5])}")
        measured.failures += judge(system.settings, admin.done()).failures
    finally:
        admin.close()


def _is_repaired(system: System, ids: dict[tuple[str, str], int]) -> Callable[[], bool]:
    def look() -> bool:
        marks = gaps.marks(system.settings)
        reached = all(key in marks and marks[key].trade_id >= last for key, last in ids.items())
        return reached and not gaps.open_gaps(system.settings)

    return look


def main(arguments: list[str] | None = None) -> int:
    """Run it once. Exit code 0 where it passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.outage", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the outage (default 60)")
    parser.add_argument("--rate", type=float, default=500.0, help="trades per second (default 500)")
    parser.add_argument("--within", type=float, default=60.0, help="seconds from the reconnect (default 60)")
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/faults/outage"))
    options = parser.parse_args(arguments)
    measured = Measured(options.seconds, options.rate)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    home = options.folder.absolute()
    shutil.rmtree(home, ignore_errors=True)
    system = LightSystem(home, options.rate)
    try:
        try:
            system.start()
            say("trades flow into Gold")
            measure(system, measured, options.within, say)
        finally:
            system.stop()
    except EXPECTED as error:
        measured.failures.append(f"{type(error).__name__}: {error}")
    finally:
        end_leftovers(home)
    print(json.dumps(asdict(measured), indent=1))
    if not measured.failures:
        shutil.rmtree(home)
    print("passed" if not measured.failures else f"FAILED; everything is kept in {home}")
    return 1 if measured.failures else 0


if __name__ == "__main__":
    sys.exit(main())
