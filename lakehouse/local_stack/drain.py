"""End a run of `--minutes`: stop new trades, drain everything, run every check, show one table.

1. If not one trade has arrived yet (a slow machine, very few minutes), wait for the first ones, until no batch has come
   for FIRST_TRADE_SECONDS.
2. Pause the simulated market.
3. Wait until Bronze, Silver and Gold are at the end of their sources, in two looks in a row, or until no batch has come
   for DRAIN_SECONDS; then the report says what is behind.
   Live venues cannot be paused: with them steps 2 and 3 are left out, and the next start goes on where this one ended.
4. Run every check.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from lakehouse.local_stack import child_commands
from lakehouse.local_stack.display import GIGABYTE, View
from lakehouse.local_stack.memory import Memory
from lakehouse.local_stack.shutdown import pause_market
from lakehouse.local_stack.supervise import LocalStack
from lakehouse.quality.checks import Check, CheckResult, run_checks
from lakehouse.simulator.record import Record
from lakehouse.status.snapshot import Snapshot, StatusReader
from lakehouse.status.view import render_results
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, GOLD_BARS_5M, OPS_BATCHES, SILVER_TRADES

#: Seconds without a batch after which draining gives up: a cold JVM's first batch took up to 44 s on idle cores.
DRAIN_SECONDS = 150.0
#: Seconds after the pause until messages in sockets and in the producer are in Kafka; also between two looks.
SETTLE_SECONDS = 2.0
#: Seconds to wait for the first trade: it took 40 s on a machine whose two cores were five times overbooked.
FIRST_TRADE_SECONDS = 120.0
#: Most messages in Kafka that may all be feed events: a start makes two to four for each venue. If there are more,
#: trades are among them.
FEED_EVENTS = 12
#: Paths of the tables that must reach the end of their sources.
STREAMED = (BRONZE_MESSAGES.path, SILVER_TRADES.path, GOLD_BARS_1M.path, GOLD_BARS_5M.path)


@dataclass(frozen=True)
class DrainReport:
    """State of a lakehouse at the end of a run of `--minutes`, with the verdicts of all checks.

    `behind` maps each table that was not drained to its lag in messages, None if unknown. `trades_made` is the number
    of trades in the simulated exchange's record, None if it keeps none.
    """

    snapshot: Snapshot
    results: list[tuple[Check, CheckResult]]
    behind: dict[str, int | None]
    drain_seconds: float
    trades_made: int | None

    @property
    def passed(self) -> bool:
        """True if there are bars, everything was drained, and every check passed."""
        return bool(self.snapshot.bars) and not self.behind and all(result.passed for _, result in self.results)

    def render(self, view: View, peak: Memory) -> RenderableType:
        """Lay out the verdicts and a closing table: rows, times, and the `peak` memory of all processes."""
        table = Table(title="SIMULATED market, closing" if view.simulated else "Closing", title_justify="left")
        table.add_column("")
        table.add_column("", justify="right")
        if self.trades_made is not None:
            table.add_row("trades that the exchange made", f"{self.trades_made:,}")
        for status in self.snapshot.tables:
            table.add_row(f"{status.path}, rows", f"{status.rows or 0:,}")
        table.add_section()
        first = f"{view.first_bar_seconds:.0f} s" if view.first_bar_seconds is not None else "never"
        table.add_row("first bars after", first)
        if view.simulated:
            table.add_row("drained within", "NOT DRAINED" if self.behind else f"{self.drain_seconds:.0f} s")
        failed = sum(not result.passed for _, result in self.results)
        table.add_row("checks passed", f"{len(self.results) - failed} of {len(self.results)}")
        table.add_row("peak memory, sum of RSS", f"{peak.rss / GIGABYTE:.2f} GB")
        table.add_row("peak memory, sum of PSS", f"{peak.pss / GIGABYTE:.2f} GB" if peak.pss else "not known here")
        table.add_row("processes at most", str(peak.processes))
        return Group(render_results(self.results), table)


def drain_and_check(
    stack: LocalStack, view: View, tick: Callable[[], bool], say: Callable[[str], None]
) -> DrainReport | None:
    """Do the module's four steps and report; return None if somebody asks to stop meanwhile.

    `tick` is called a few times a second to look after the stack, and returns False if somebody asks to stop. `say`
    prints a line for people.
    """
    reader = StatusReader(view.settings)
    # 1. the first trades
    if not _has_trades(reader.collect()):
        view.activity = "waiting for the first trades"
        say(f"no trade has arrived yet; waiting up to {FIRST_TRADE_SECONDS:.0f} s more for the first ones")
        if not _look_until(_has_trades, reader, tick, FIRST_TRADE_SECONDS):
            return None

    started = time.monotonic()
    behind: dict[str, int | None] = {}
    if stack.market is not None:
        # 2. nothing new
        if not pause_market(stack.market.url):
            say("the simulated exchange did not answer the request to pause; going on")
        view.activity = "draining"
        say("market paused; waiting until every trade has reached Gold")

        # 3. everything drained
        looks: list[bool] = []

        def drained_twice(snapshot: Snapshot) -> bool:
            looks.append(not behind_of(snapshot))
            return looks[-2:] == [True, True]

        snapshot = _look_until(drained_twice, reader, tick, DRAIN_SECONDS)
        if snapshot is None:
            return None
        behind = behind_of(snapshot)
        if behind:
            what = ", ".join(f"{path} {lag}" for path, lag in behind.items())
            say(f"no batch for {DRAIN_SECONDS:.0f} s and still behind: {what}")
    seconds = time.monotonic() - started

    # 4. every check
    view.activity = "checking"
    say("running all checks")
    results = run_checks(view.settings)
    return DrainReport(reader.collect(), results, behind, seconds, _trades_made(stack))


def behind_of(snapshot: Snapshot) -> dict[str, int | None]:
    """Return path → lag, in messages, of each table of STREAMED that is not at the end of its source.

    The lag is None if it is not known, which counts as behind. Empty if everything is drained.
    """
    return {path: snapshot.table(path).lag for path in STREAMED if snapshot.table(path).lag != 0}


def _has_trades(snapshot: Snapshot) -> bool:
    bronze = snapshot.table(BRONZE_MESSAGES.path)
    return (bronze.rows or 0) + (bronze.lag or 0) > FEED_EVENTS


def _look_until(
    done: Callable[[Snapshot], bool], reader: StatusReader, tick: Callable[[], bool], seconds: float
) -> Snapshot | None:
    """Return the first snapshot that is `done`, or the last if no batch came for `seconds`; None if asked to stop."""
    until, batches = time.monotonic() + seconds, 0
    while True:
        next_look = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < next_look:
            if not tick():
                return None
        snapshot = reader.collect()
        if (snapshot.table(OPS_BATCHES.path).rows or 0) > batches:
            batches = snapshot.table(OPS_BATCHES.path).rows or 0
            until = time.monotonic() + seconds
        if done(snapshot) or time.monotonic() >= until:
            return snapshot


def _trades_made(stack: LocalStack) -> int | None:
    """Count the simulated exchange's record, over all starts in this folder; None if it has none (a replay)."""
    if stack.market is None or stack.market.replays:
        return None
    record = Record(child_commands.record_folder(stack.settings))
    return sum(record.count(venue, symbol) for venue, symbol in record.keys())  # noqa: SIM118 - not a mapping
