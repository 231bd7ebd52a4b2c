"""After the storm: no fault any more, every symbol trades once more, the market halts, everything drains.

Then the venues are asked once more for what they lacked, as a user does who will not wait for an hour.

When to stop waiting is decided by what lies ahead (lags, open gaps, the exchange's newest ids); whether the tables are
right is for the verdict alone, which is taken also where this gave up waiting.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass, field

import httpx
from deltalake.exceptions import DeltaError

from lakehouse.continuity import gaps
from lakehouse.errors import LakehouseError
from lakehouse.local_stack.drain import behind_of
from lakehouse.status.snapshot import StatusReader
from tests.faults.admin import Admin
from tests.faults.system import System, child_variables, wait_for

#: Seconds for ingest to have every socket again after the last kill: a run's backoff, a broker's restart, a code
#: server's; each was seen to take up to half a minute.
RETURN_SECONDS = 240.0
#: Seconds of trading with everything up, so that a symbol's next trade shows what is missing before it.
TRADE_SECONDS = 10.0
#: Everything must look done for so long, in seconds: longer than a stream's trigger and a batch.
STABLE_SECONDS = 12.0
#: Seconds for `lakehouse repair --unavailable`: as long as one repair may fetch and settle, and a start.
AGAIN_SECONDS = 420.0
#: Between two looks, in seconds; one look reads some Delta logs.
LOOK_SECONDS = 2.0


@dataclass
class Drain:
    """How the draining went. `left` is empty where everything was drained; `paused_at` is monotonic seconds."""

    seconds: float = 0.0
    left: list[str] = field(default_factory=list)


def quiet(system: System, admin: Admin, drain_seconds: float) -> Drain:
    """Do all of it. Raises NotReached where ingest does not come back or a symbol does not trade."""
    admin.end_faults()
    wait_for("a subscriber for every symbol", lambda: not unheard(admin), RETURN_SECONDS, system.look)
    before = newest(admin)
    until = time.monotonic() + TRADE_SECONDS
    wait_for(
        "a trade of every symbol",
        lambda: time.monotonic() > until and all(last > before[key] for key, last in newest(admin).items()),
        TRADE_SECONDS + 60.0,
        system.look,
    )
    admin.pause()
    drained = drain(system, admin, drain_seconds)
    if drained.left or not gaps.unavailable_gaps(system.settings):
        return drained
    if failure := ask_again(system):
        return Drain(drained.seconds, [failure])
    again = drain(system, admin, drain_seconds)
    return Drain(drained.seconds + again.seconds, again.left)


def ask_again(system: System) -> str:
    """`lakehouse repair --unavailable`, as a user says it; what went wrong, or an empty string."""
    settings = system.settings
    command = [sys.executable, "-m", "lakehouse", "repair", "--unavailable", "--home", str(settings.home)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_variables(settings.environment(), settings.home),
    )
    deadline = time.monotonic() + AGAIN_SECONDS
    while process.poll() is None:
        system.look()  # Kafka, ingest and the streams live on
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(LOOK_SECONDS)
    said = process.communicate()[0].strip()
    with contextlib.suppress(OSError):
        (settings.home / "repair.txt").write_text(said, encoding="utf-8")
    return (
        f"lakehouse repair --unavailable ended with {process.returncode}: {said[-300:]}" if process.returncode else ""
    )


def drain(system: System, admin: Admin, seconds: float) -> Drain:
    """Wait until nothing is left to do, seen for STABLE_SECONDS, or until `seconds` have passed."""
    started, reader = time.monotonic(), StatusReader(system.settings)
    done_since: float | None = None
    while True:
        system.look()
        left = ahead(system, admin, reader)
        now = time.monotonic()
        done_since = None if left else done_since or now
        if done_since is not None and now - done_since >= STABLE_SECONDS:
            return Drain(done_since - started)
        if now - started > seconds:
            return Drain(now - started, left or ["not stable"])
        time.sleep(LOOK_SECONDS)


def ahead(system: System, admin: Admin, reader: StatusReader) -> list[str]:
    """Tell in words the work that is left at this moment."""
    settings = system.settings
    try:
        left = [f"{path} behind by {lag}" for path, lag in behind_of(reader.collect()).items()]
        left += [f"open gap {one.venue} {one.symbol} {one.first_id}-{one.last_id}" for one in gaps.open_gaps(settings)]
        marks = gaps.marks(settings)
    except (LakehouseError, DeltaError) as error:  # a table in the middle of a commit
        return [f"not readable: {' '.join(str(error).split())[:200]}"]
    for key, last in newest(admin).items():
        mark = marks.get(key)
        if mark is None or mark.trade_id != last:
            left.append(f"{' '.join(key)} is at {mark.trade_id if mark else 'nothing'}, the exchange at {last}")
    return left


def unheard(admin: Admin) -> list[str]:
    """The markets that nobody is subscribed to: of all that the exchange lists, also one that never traded."""
    with contextlib.suppress(httpx.TransportError):
        return [
            f"{market['venue']} {market['symbol']}" for market in admin.status()["markets"] if not market["subscribers"]
        ]
    return ["the simulator does not answer"]


def newest(admin: Admin) -> dict[tuple[str, str], int]:
    """(venue, symbol) → newest trade id, of the markets that have traded."""
    return {
        (market["venue"], market["symbol"]): market["last_id"]
        for market in admin.status()["markets"]
        if market["last_id"] is not None
    }
