"""Rebuild Gold of whole days from Silver, also while the stream writes the same days.

It runs the stream's own functions, slice by slice. A slice takes a turn between two batches of the stream and is
written at the version of Silver that Gold has processed by then. So Gold is at one known version of Silver before,
between and after the slices, it holds no trade that the stream has yet to process, and neither overwrites newer rows
with older ones.
Guarantee: afterwards every row of these days agrees with Silver; rows without trades in Silver are gone; rows that were
right are not touched, so their revision stays. A rebuild that was cut can simply be run again.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deltalake import Transaction

from lakehouse.errors import BrokerUnavailableError, SettingError, TerminalError
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import standalone_run_id
from lakehouse.lake.lease import Turn
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchResult, ledger_row
from lakehouse.streams.gold import app_id, gold_versions
from lakehouse.streams.gold_complete import Completeness
from lakehouse.streams.gold_final import Finality, ReadThrough
from lakehouse.streams.gold_rows import RowChanges
from lakehouse.streams.gold_write import GoldWriter
from lakehouse.streams.tasks import Tasks
from lakehouse.streams.unfinished import require_finished
from lakehouse.streams.upkeep import Upkeep
from lakehouse.tables import GOLD_BARS_1M, OPS_BATCHES, SILVER_TRADES
from lakehouse.transforms.time_ranges import TimeRange

#: Approximate number of trades in a slice: a second or two of work, for which the stream waits.
SLICE_TRADES = 250_000
#: Numbers of slices into which a day may be cut: each slice begins and ends with an hour.
SLICES = (1, 2, 3, 4, 6, 8, 12, 24)

DAY = dt.timedelta(days=1)

#: Seconds that a rebuild waits at its end for the streams to have read everything up to the present moment.
FINISH_SECONDS = 15.0


@dataclass(frozen=True)
class GoldRebuild:
    """Result of a rebuild of Gold: the UTC days, both inclusive, the number of slices, and the changed rows.

    `silver_version` is the version of silver/trades of the last slice, None if there was nothing to do.
    """

    first_day: dt.date
    last_day: dt.date
    slices: int
    silver_version: int | None
    rows: dict[str, RowChanges] = field(default_factory=dict)  #: table path → changes


def rebuild_days(
    settings: Settings,
    first_day: dt.date,
    last_day: dt.date,
    run_id: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    silver_version: int | None = None,
) -> GoldRebuild:
    """Rebuild every table of Gold from `first_day` to `last_day`, UTC, both inclusive.

    `run_id` is written to ops/batches; None: `standalone:PID`. `say` gets a line for each day. `silver_version` is the
    version of silver/trades to read, given by a rebuild of Silver, which holds the leases and writes ops/batches
    itself; None: the version that Gold has processed at each slice.
    Raises SettingError if the days are in the wrong order, TerminalError if Gold has never been written, or if a
    rebuild of Silver was cut and must be finished first.
    """
    if last_day < first_day:
        raise SettingError(f"days from {first_day} to {last_day}", "the first day first")
    table_io.ensure_tables(settings)
    if silver_version is None:
        require_finished(settings, ("gold",))
    rebuild = _Rebuild(settings, silver_version)
    for day, trades in _days(settings, first_day, last_day):
        for piece in _slices(day, trades):
            rebuild.slice(piece, run_id or standalone_run_id())
        say(f"{day}: {trades:,} trades")
    if (
        silver_version is None
    ):  # else the rebuild of Silver has yet to write ops/batches; Gold's stream flags the bars after that
        rebuild.finish()
    return GoldRebuild(first_day, last_day, rebuild.slices, rebuild.version, rebuild.changes)


class _Rebuild:
    """State of one rebuild: its slices so far, and the completeness of Silver."""

    def __init__(self, settings: Settings, silver_version: int | None) -> None:
        self._settings = settings
        self._silver_version = silver_version
        self._completeness: Completeness | None = None
        self._finality = Finality.of_tables(settings)
        self._upkeep = Upkeep(settings, ("gold",))
        self.version: int | None = None
        self.slices = 0
        self.changes: dict[str, RowChanges] = {}

    def slice(self, piece: TimeRange, run_id: str) -> None:
        """Rebuild one slice in one turn."""
        settings = self._settings
        with Turn(settings, "gold"):
            started = dt.datetime.now(dt.UTC)
            self.version = processed_version(settings) if self._silver_version is None else self._silver_version
            self._completeness = self._completeness or Completeness.at(settings, self.version)
            self._completeness.read_up_to(settings, self.version)
            of_silver = Transaction(app_id(settings), self.version)
            writer = GoldWriter(settings, self._completeness, self._finality, of_silver, Tasks(settings))
            writer.slice(piece)
            if self._silver_version is None and any(changes.any for changes in writer.changes.values()):
                _record(settings, run_id, started)
        self._upkeep.write_checkpoints()
        self.slices += 1
        for path, changes in writer.changes.items():
            self.changes[path] = self.changes.get(path, RowChanges()).plus(changes)

    def finish(self) -> None:
        """Flag rewritten bars as final if they are over by the clock; the running stream does not know of them.

        Gives up if the streams are far behind: then the stream does it at its next start.
        """
        settings, read = self._settings, ReadThrough(self._settings)
        deadline = time.monotonic() + FINISH_SECONDS
        finality = Finality.of_tables(settings)
        while finality.over(now := time.time_ns() // 1_000) and time.monotonic() < deadline:
            try:
                moment = read.passed(now)
            except BrokerUnavailableError:  # nobody knows whether everything has been read
                return
            if moment is not None:
                with Turn(settings, "gold"):
                    finality.write(moment)
                return
            time.sleep(0.5)


def processed_version(settings: Settings) -> int:
    """Return the version of silver/trades up to which Gold was computed. Raises TerminalError if it never was."""
    version = table_io.open_table(settings, GOLD_BARS_1M).transaction_version(app_id(settings))
    if version is None:
        raise TerminalError(
            f"no gold stream has written {settings.lake}",
            "one that has",
            "run `lakehouse stream gold` or catch_up first",
        )
    return int(version)


def _record(settings: Settings, run_id: str, started: dt.datetime) -> None:
    """Write a row of ops/batches after Gold's newest batch: the same position in Silver, no trades, new versions.

    It carries that batch's generation, so that the chain of batches stays whole, and a negative number, which Spark
    does not use.
    """
    newest = table_io.sql(
        settings,
        "SELECT generation, source_end FROM t WHERE query = 'gold' ORDER BY committed_at DESC, batch_id DESC LIMIT 1",
        t=OPS_BATCHES,
    ).to_pylist()
    if not newest:  # the first batch was cut before its row: it runs again, and writes it
        return
    end, committed = json.loads(newest[0]["source_end"]), dt.datetime.now(dt.UTC)
    number = -((committed - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1))
    result = BatchResult(end, end, rows_in=0, rows_out=0, versions=gold_versions(settings))
    row = ledger_row("gold", newest[0]["generation"], number, run_id, (started, committed), result)
    table_io.append_rows(settings, OPS_BATCHES, [row])


def _days(settings: Settings, first: dt.date, last: dt.date) -> list[tuple[dt.date, int]]:
    """List the days on which Silver or Gold has rows, with Silver's number of trades, from the Delta logs."""
    trades = table_io.days(settings, SILVER_TRADES)
    gold = [table_io.days(settings, table) for table in table_io.active_tables(settings) if table.layer == "gold"]
    days = sorted(day for day in set(trades).union(*gold) if first <= day <= last)
    return [(day, trades[day].rows if day in trades else 0) for day in days]


def _slices(day: dt.date, trades: int) -> list[TimeRange]:
    wanted = -(-trades // SLICE_TRADES)
    number = next((one for one in SLICES if one >= wanted), SLICES[-1])
    start, length = dt.datetime.combine(day, dt.time(), dt.UTC), DAY / number
    return [TimeRange(start + length * place, start + length * (place + 1)) for place in range(number)]
