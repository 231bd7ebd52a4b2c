"""The state of a lake at one moment, and the tables that show it. Read through deltalake: no JVM, no Spark.

`lakehouse status` prints it once; the demo's live display collects it again and again through one StatusReader.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse import lag
from lakehouse.errors import BrokerUnavailableError, TerminalError
from lakehouse.holes import open_holes, unavailable_holes
from lakehouse.lake import active_tables, bar_tables, open_table, row_count, sql
from lakehouse.ledger import Batch, Verdict, newest_batches, newest_verdicts
from lakehouse.quality.checks import checks_of_lake
from lakehouse.quarantine import open_quarantine
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, BY_PATH, GOLD_BARS_1M, SILVER_TRADES

#: Seconds a broker has to answer; a local one needs 0.05.
BROKER_TIMEOUT_SECONDS = 2.0
#: Seconds that trades/s looks back on: a few of the streams' batches, so that it does not flicker.
RATE_WINDOW_SECONDS = 30.0
LATEST_BARS = 5


@dataclass(frozen=True)
class TableStatus:
    """A table at its newest version. All None: it does not exist yet. `lag` counts messages (Bronze) or source rows."""

    path: str
    rows: int | None = None
    version: int | None = None
    committed_at: datetime | None = None
    lag: int | None = None


@dataclass(frozen=True)
class LatestBar:
    """What the display shows of a one-minute bar."""

    venue: str
    symbol: str
    bar_start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int


@dataclass(frozen=True)
class Snapshot:
    """Everything that the display shows. `trades_per_second` is None until there are two collections to compare.

    `quarantine` maps a rule to its open messages; `holes` and `missing` are open holes and the trade ids in them;
    `unavailable` are trade ids that the venues have shown not to have, by the number of their answers.
    """

    home: str
    simulated: bool
    taken_at: datetime
    tables: tuple[TableStatus, ...]
    bars: tuple[LatestBar, ...]
    verdicts: tuple[Verdict, ...]
    broker: str
    trades_per_second: float | None = None
    quarantine: Mapping[str, int] = field(default_factory=dict)
    holes: int = 0
    missing: int = 0
    unavailable: Mapping[int, int] = field(default_factory=dict)

    def table(self, path: str) -> TableStatus:
        """The status of one table. Raises KeyError where the path is none of the registry's."""
        for status in self.tables:
            if status.path == path:
                return status
        raise KeyError(path)


class StatusReader:
    """Collects snapshots of one lake. Keep it between collections: trades/s is growth since an earlier one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._silver_rows: deque[tuple[float, int]] = deque()

    def collect(self) -> Snapshot:
        """The state now. A table that does not exist yet and a broker that is away are part of it, not errors."""
        tables = {table.path: _open_or_none(self._settings, table.path) for table in active_tables(self._settings)}
        batches = newest_batches(self._settings) if tables["ops/batches"] else {}
        lags, broker = self._lags(tables, batches)
        statuses = tuple(_status(path, table, lags.get(path)) for path, table in tables.items())
        silver = next(status.rows for status in statuses if status.path == SILVER_TRADES.path)
        holes = open_holes(self._settings)
        unavailable: Counter[int] = Counter()
        for hole in unavailable_holes(self._settings):
            unavailable[hole.tries] += len(hole)
        expected = {(check.table_path, check.name) for check in checks_of_lake(self._settings)}
        return Snapshot(
            home=str(self._settings.home),
            simulated=is_simulated(self._settings),
            taken_at=datetime.now(UTC),
            tables=statuses,
            bars=_latest_bars(self._settings, tables[GOLD_BARS_1M.path]),
            verdicts=tuple(newest_verdicts(self._settings, expected) if tables["ops/checks"] else ()),
            broker=broker,
            trades_per_second=self._rate(silver),
            quarantine=open_quarantine(self._settings),
            holes=len(holes),
            missing=sum(len(hole) for hole in holes),
            unavailable=unavailable,
        )

    def _lags(self, tables: dict[str, DeltaTable | None], batches: dict[str, Batch]) -> tuple[dict[str, int], str]:
        """Table path → lag, and what to say of the broker."""
        lags: dict[str, int] = {}
        for path, source, query in (
            (SILVER_TRADES.path, BRONZE_MESSAGES, "silver"),
            *((table.path, SILVER_TRADES, "gold") for table, _ in bar_tables(self._settings)),
        ):
            if tables[path] is not None and tables[source.path] is not None:
                lags[path] = lag.rows_behind(self._settings, source, batches.get(query))
        try:
            bootstrap = self._settings.bootstrap()
            ends = lag.end_offsets(bootstrap, self._settings.topics, BROKER_TIMEOUT_SECONDS)
        except BrokerUnavailableError as error:
            return lags, f"no answer: {error.found}"
        if tables[BRONZE_MESSAGES.path] is not None:
            lags[BRONZE_MESSAGES.path] = lag.kafka_lag(ends, batches.get("bronze"))
        return lags, bootstrap

    def _rate(self, rows: int | None) -> float | None:
        """Silver's growth per second over the last RATE_WINDOW_SECONDS of collections."""
        if rows is None:
            return None
        now = time.monotonic()
        self._silver_rows.append((now, rows))
        # Keep one sample from before the window, so that the span covers the whole of it.
        while len(self._silver_rows) > 2 and self._silver_rows[1][0] <= now - RATE_WINDOW_SECONDS:
            self._silver_rows.popleft()
        then, rows_then = self._silver_rows[0]
        return (rows - rows_then) / (now - then) if now > then else None


def collect(settings: Settings) -> Snapshot:
    """One snapshot, without trades/s."""
    return StatusReader(settings).collect()


def is_simulated(settings: Settings) -> bool:
    """Whether this lake's trades come from the simulated exchange."""
    return settings.simulator_url is not None or (settings.home / "simulator").exists()


def _open_or_none(settings: Settings, path: str) -> DeltaTable | None:
    try:
        return open_table(settings, BY_PATH[path])
    except TerminalError:
        return None


def _status(path: str, table: DeltaTable | None, behind: int | None) -> TableStatus:
    if table is None:
        return TableStatus(path)
    committed_at = datetime.fromtimestamp(table.history(1)[0]["timestamp"] / 1000, UTC)
    return TableStatus(path, row_count(table), table.version(), committed_at, behind)


def _latest_bars(settings: Settings, table: DeltaTable | None) -> tuple[LatestBar, ...]:
    if table is None:
        return ()
    files = pa.table(table.get_add_actions(flatten=True))
    if files.num_rows == 0:
        return ()
    newest_date = pc.max(files["partition.bar_date"]).as_py()
    rows: list[dict[str, Any]] = sql(
        settings,
        f"""
        SELECT venue, symbol, bar_start, open, high, low, close, volume, trades
        FROM bars WHERE bar_date = DATE '{newest_date}'
        ORDER BY bar_start DESC, venue, symbol LIMIT {LATEST_BARS}
        """,
        bars=table,
    ).to_pylist()
    return tuple(LatestBar(**row) for row in rows)
