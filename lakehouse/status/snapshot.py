"""The state of a lake at one moment, read through deltalake: no JVM, no Spark.

`lakehouse status` prints it once; the demo's live display collects it repeatedly through one StatusReader.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse.broker.ports import LOCALHOST
from lakehouse.broker.stored import stored_end_offsets
from lakehouse.continuity.gaps import marks, open_gaps, unavailable_gaps
from lakehouse.errors import BrokerUnavailableError, TerminalError
from lakehouse.lake import lag
from lakehouse.lake.batch_log import Batch, Verdict, newest_batches, newest_verdicts
from lakehouse.lake.feed_state import NotConnected, NotSubscribed, not_connected, not_subscribed
from lakehouse.lake.quarantine import open_quarantine
from lakehouse.lake.table_io import active_tables, bar_tables, open_table, row_count, sql
from lakehouse.quality.checks import checks_of_lake
from lakehouse.settings import Settings
from lakehouse.sinks.stores import STORES
from lakehouse.status.supervision import Work, read_works
from lakehouse.tables import BRONZE_MESSAGES, BY_PATH, GOLD_BARS_1M, SILVER_FEED_EVENTS, SILVER_TRADES

#: Seconds that a broker has to answer; a local one needs 0.05.
BROKER_TIMEOUT_SECONDS = 2.0
#: Seconds that the HTTP API has to accept a connection; a local one needs 0.001.
API_TIMEOUT_SECONDS = 0.5
#: Seconds over which trades/s is averaged: a few of the streams' batches, so that it does not flicker.
RATE_WINDOW_SECONDS = 30.0
#: Most series (venue and symbol) whose newest bar is shown; of the others only the number is.
MOST_SERIES = 30
#: Minutes before the newest bar in which the newest bar of each series is searched, so that no look reads a whole day.
SERIES_MINUTES = 60


@dataclass(frozen=True)
class TableStatus:
    """A table at its newest version. All attributes but `path` are None if the table does not exist yet.

    `committed_at` is in UTC. `lag` counts the messages in Kafka that the table does not cover yet, or those in Bronze
    if Kafka's end is not known. Only bronze/messages, silver/trades and the bars have a lag.
    """

    path: str
    rows: int | None = None
    version: int | None = None
    committed_at: datetime | None = None
    lag: int | None = None


@dataclass(frozen=True)
class LatestBar:
    """The newest one-minute bar of a (venue, symbol), with the columns that the display shows."""

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
    """State of a lake at one moment, as the display shows it.

    `trades_per_second` is None until there are two collections to compare. `broker`: Kafka's address, or why it does
    not answer. `api`: the HTTP API's URL, None if nothing listens there.

    `quarantine` maps a rule to its number of open messages. `gaps` counts the open gaps and `missing` the trade ids in
    them. `unavailable` maps a number of answers to the number of trade ids that a venue lacked in so many answers.
    `bars` holds the newest bar of each series (venue and symbol), the newest first, MOST_SERIES at most. `series`
    counts the series in the ledger of ids. `works` is empty if no Dagster answers.
    `unset_sinks`: the environment variables for the URLs of the stores that no sink keeps.
    """

    home: str
    simulated: bool
    taken_at: datetime
    tables: tuple[TableStatus, ...]
    bars: tuple[LatestBar, ...]
    verdicts: tuple[Verdict, ...]
    broker: str
    api: str | None = None
    trades_per_second: float | None = None
    quarantine: Mapping[str, int] = field(default_factory=dict)
    gaps: int = 0
    missing: int = 0
    series: int = 0
    works: tuple[Work, ...] = ()
    unset_sinks: tuple[str, ...] = ()
    not_connected: tuple[NotConnected, ...] = ()
    not_subscribed: tuple[NotSubscribed, ...] = ()
    unavailable: Mapping[int, int] = field(default_factory=dict)

    def table(self, path: str) -> TableStatus:
        """Return the status of one table. Raises KeyError if this lakehouse makes no table of this path."""
        for status in self.tables:
            if status.path == path:
                return status
        raise KeyError(path)


class StatusReader:
    """Collects snapshots of one lake. Keep it between collections: trades/s is the growth since an earlier one."""

    def __init__(self, settings: Settings, is_supervised: bool = True) -> None:
        """Prepare to read the lake of the settings. If `is_supervised` is False, Dagster is not asked for its runs."""
        self._settings = settings
        self._is_supervised = is_supervised
        self._seen = -1  # version of silver/feed_events from which the next two were read
        self._not_connected: tuple[NotConnected, ...] = ()
        self._not_subscribed: tuple[NotSubscribed, ...] = ()
        self._silver_rows: deque[tuple[float, int]] = deque()

    def collect(self) -> Snapshot:
        """Read the state now. No error is raised for a missing table or a silent broker: the snapshot shows them."""
        tables = {table.path: _open_or_none(self._settings, table.path) for table in active_tables(self._settings)}
        batches = newest_batches(self._settings) if tables["ops/batches"] else {}
        lags, broker = self._lags(tables, batches)
        statuses = tuple(_status(path, table, lags.get(path)) for path, table in tables.items())
        silver = next(status.rows for status in statuses if status.path == SILVER_TRADES.path)
        gaps = open_gaps(self._settings)
        unavailable: Counter[int] = Counter()
        for gap in unavailable_gaps(self._settings):
            unavailable[gap.tries] += len(gap)
        self._look_at_feeds(tables[SILVER_FEED_EVENTS.path])
        works = read_works(self._settings) if self._is_supervised else ()
        expected = {(check.table_path, check.name) for check in checks_of_lake(self._settings)}
        return Snapshot(
            home=str(self._settings.home),
            simulated=self._settings.is_simulated,
            taken_at=datetime.now(UTC),
            tables=statuses,
            bars=_latest_bars(self._settings, tables[GOLD_BARS_1M.path]),
            verdicts=tuple(newest_verdicts(self._settings, expected) if tables["ops/checks"] else ()),
            broker=broker,
            api=_api(self._settings),
            trades_per_second=self._rate(silver),
            quarantine=open_quarantine(self._settings),
            gaps=len(gaps),
            missing=sum(len(gap) for gap in gaps),
            series=len(marks(self._settings)),
            works=works,
            unset_sinks=_unset_sinks(self._settings, works),
            not_connected=self._not_connected,
            not_subscribed=self._not_subscribed,
            unavailable=unavailable,
        )

    def _look_at_feeds(self, events: DeltaTable | None) -> None:
        """Find venues that are not connected and symbols that are not subscribed, if there are new feed events."""
        if events is None or self._seen == events.version():
            return
        self._seen = events.version()
        self._not_connected, self._not_subscribed = not_connected(self._settings), not_subscribed(self._settings)

    def _lags(self, tables: dict[str, DeltaTable | None], batches: dict[str, Batch]) -> tuple[dict[str, int], str]:
        """Table path → messages behind Kafka's newest, and what to say of the broker.

        If Kafka's end is not known, a table counts from Bronze on.
        """
        ends, broker = self._kafka_ends()
        lags: dict[str, int] = {}
        behind = 0
        if ends and tables[BRONZE_MESSAGES.path] is not None:
            behind = lags[BRONZE_MESSAGES.path] = lag.kafka_lag(ends, batches.get("bronze"))
        bars = tuple(table.path for table, _ in bar_tables(self._settings))
        for paths, source, query in (
            ((SILVER_TRADES.path,), BRONZE_MESSAGES, "silver"),
            (bars, SILVER_TRADES, "gold"),
        ):
            if tables[source.path] is not None:
                behind += lag.rows_behind(self._settings, source, batches.get(query))
                lags |= {path: behind for path in paths if tables[path] is not None}
        return lags, broker

    def _kafka_ends(self) -> tuple[lag.Offsets, str]:
        """Kafka's end offsets and where they come from; of an embedded broker that does not run, as it left them."""
        try:
            bootstrap = self._settings.bootstrap()
            return lag.end_offsets(bootstrap, self._settings.topics, BROKER_TIMEOUT_SECONDS), bootstrap
        except BrokerUnavailableError as error:
            stored = {} if self._settings.bootstrap_servers else self._stored_ends()
            return stored, f"no answer: {error.found}" + (
                "; its newest messages are known from its files" * bool(stored)
            )

    def _stored_ends(self) -> lag.Offsets:
        stored = stored_end_offsets(self._settings.broker_home, self._settings.topics)
        return {topic: {str(place): end for place, end in places.items()} for topic, places in stored.items()}

    def _rate(self, rows: int | None) -> float | None:
        """Silver's growth in rows per second over the last RATE_WINDOW_SECONDS of collections; None for the first."""
        if rows is None:
            return None
        now = time.monotonic()
        self._silver_rows.append((now, rows))
        # Keep one sample from before the window, so that the span covers the whole of it.
        while len(self._silver_rows) > 2 and self._silver_rows[1][0] <= now - RATE_WINDOW_SECONDS:
            self._silver_rows.popleft()
        then, rows_then = self._silver_rows[0]
        return (rows - rows_then) / (now - then) if now > then else None


def collect(settings: Settings, is_supervised: bool = True) -> Snapshot:
    """Take one snapshot, without trades/s. If `is_supervised` is False, Dagster is not asked for its runs."""
    return StatusReader(settings, is_supervised).collect()


def _api(settings: Settings) -> str | None:
    """Return the URL of the HTTP API if something listens at its port."""
    host = urlsplit(settings.api_url).hostname
    try:
        with socket.create_connection((host or LOCALHOST, settings.serve_port), API_TIMEOUT_SECONDS):
            return settings.api_url
    except OSError:
        return None


def _unset_sinks(settings: Settings, works: tuple[Work, ...]) -> tuple[str, ...]:
    """Return the variables with the URLs of the stores that nothing keeps."""
    kept = {work.name for work in works}
    return tuple(store.variable for store in STORES if not store.is_wanted(settings) and store.job not in kept)


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
        WITH lately AS (
            SELECT venue, symbol, bar_start, open, high, low, close, volume, trades FROM bars
            WHERE bar_date >= DATE '{newest_date}' - INTERVAL '1' DAY AND bar_start >= (
                SELECT max(bar_start) FROM bars WHERE bar_date = DATE '{newest_date}'
            ) - INTERVAL '{SERIES_MINUTES}' MINUTE
        )
        SELECT lately.* FROM lately JOIN (
            SELECT venue, symbol, max(bar_start) AS bar_start FROM lately GROUP BY venue, symbol
        ) AS newest USING (venue, symbol, bar_start)
        ORDER BY bar_start DESC, venue, symbol LIMIT {MOST_SERIES}
        """,
        bars=table,
    ).to_pylist()
    return tuple(LatestBar(**row) for row in rows)
