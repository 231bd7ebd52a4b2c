"""`Lake`: the tables of a lakehouse by venue, symbol and time range."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse.client import bars as client_bars
from lakehouse.client.bar_completeness import bar_certificates
from lakehouse.client.completeness import certificates
from lakehouse.client.filters import Filter, canonical, market_filters
from lakehouse.client.scan import OpenAt, Scan
from lakehouse.client.time_range import Time, TimeRange, moment
from lakehouse.errors import SettingError, TerminalError
from lakehouse.lake import table_io
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import (
    BAR_MINUTES,
    BARS,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    SILVER_CONTINUITY,
    SILVER_TRADES,
    Table,
)

Fill = Literal["none", "forward"]


class Lake:
    """The tables of one lakehouse, on a local disk or an object store, for reading.

    The methods that are named after data, except `markets`, return a lazy `Scan` of one version of a table: `version`,
    or the newest at the moment `at`, or the newest. `start` is inclusive and `end` exclusive; both are moments (see
    `time_range.Time`), None is no limit. Without a venue or symbol all are meant. `as_float` turns decimals into the
    nearest float64 or a neighbour of it. Raises SettingError for arguments that cannot be used, TerminalError if there
    is no such table, or if its version at the moment `at` is not known.
    """

    def __init__(self, settings: Settings, open_at: OpenAt | None = None) -> None:
        """Read the lake of the settings. `open_at` opens tables at a version, for a caller that keeps them open."""
        self.settings = settings
        self._open_at = open_at

    @classmethod
    def open(cls, place: str | os.PathLike[str] | None = None) -> Lake:
        """Open the lakehouse in a folder (`.lakehouse/demo`), or the lake at a URI (`s3://bucket/lake`).

        Without a place, opens the lake of the settings `LAKEHOUSE_HOME` and `LAKEHOUSE_LAKE_URI`. Raises TerminalError
        if there is no lake.
        """
        if place is None:
            settings = load_settings()
        elif "://" in (text := os.fspath(place)):
            settings = load_settings(lake_uri=text)
        else:
            settings = load_settings(home=text, lake_uri=str(Path(text) / "lake"))
        uri = table_io.table_uri(settings, SILVER_TRADES)
        if not DeltaTable.is_deltatable(uri):
            raise TerminalError(
                f"no lake at {settings.lake}",
                "the home of a lakehouse, or the URI of its lake",
                "start `lakehouse demo`",
            )
        return cls(settings)

    def markets(self) -> pa.Table:
        """Read the markets that the ledger of ids knows, by trades or by gaps: columns venue and symbol, sorted."""
        query = "SELECT DISTINCT venue, symbol FROM ranges ORDER BY venue, symbol"
        found = table_io.sql(self.settings, query, ranges=SILVER_CONTINUITY)
        return found.cast(pa.schema([pa.field("venue", pa.string()), pa.field("symbol", pa.string())]))

    def trades(
        self,
        venue: str | None = None,
        symbol: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        version: int | None = None,
        at: Time | None = None,
        as_float: bool = False,
    ) -> Scan:
        """Scan silver/trades: one row per trade, ordered by venue, symbol and trade id."""
        return self._scan(
            SILVER_TRADES,
            market_filters(venue, symbol),
            ("ts_event", "event_date"),
            TimeRange.of(start, end),
            version,
            at,
            as_float,
        )

    def bars(
        self,
        venue: str | None = None,
        symbol: str | None = None,
        *,
        size: str = "1m",
        start: Time | None = None,
        end: Time | None = None,
        fill: Fill = "none",
        version: int | None = None,
        at: Time | None = None,
        as_float: bool = False,
    ) -> Scan:
        """Scan the bars that start in the range, of a size that divides a day (1m, 5m, 10m, 4h, 1d).

        A size that Gold does not keep is rolled up from Gold's bars of one or five minutes; `version` is then that of
        their table. `fill="forward"` adds a bar for each window without trades (see `client.bars.filled`), also at the
        beginning of the range, if the market traded in the day before it.
        """
        if fill not in ("none", "forward"):
            raise SettingError(f"fill {fill!r}", "none or forward")
        minutes, wanted = client_bars.minutes_of(size), TimeRange.of(start, end)
        length = self.bar_minutes(size)
        read = (
            wanted if length == minutes else wanted.widened(2 * dt.timedelta(minutes=minutes))
        )  # it may begin inside a window
        if fill == "forward":
            read = TimeRange(read.start and read.start - client_bars.CARRY, read.end)
        scan = self._scan(
            BARS[length], market_filters(venue, symbol), ("bar_start", "bar_date"), read, version, at, as_float
        )
        if length == minutes and fill == "none":
            return scan

        def made(rows: pa.Table) -> pa.Table:
            if length != minutes:
                within = TimeRange(wanted.start and read.start, wanted.end) if fill == "forward" else wanted
                rows = client_bars.rolled_up(rows, length, minutes, within)
            return (
                rows if fill == "none" else client_bars.filled(rows, minutes, wanted, self._known_until(scan, wanted))
            )

        return dataclasses.replace(scan, made=made)

    def bar_minutes(self, size: str) -> int:
        """Return the length in minutes of the bars that are read for a size: its own, or shorter ones to roll up."""
        minutes = client_bars.minutes_of(size)
        stored = {length for name, length in BAR_MINUTES.items() if name in self.settings.bar_sizes}
        return minutes if minutes in stored else 5 if minutes % 5 == 0 else 1

    def indicators(
        self,
        venue: str | None = None,
        symbol: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        version: int | None = None,
        at: Time | None = None,
        as_float: bool = False,
    ) -> Scan:
        """Scan gold/indicators_1m: moving averages, rolling VWAPs and returns of each one-minute bar."""
        return self._scan(
            GOLD_INDICATORS_1M,
            market_filters(venue, symbol),
            _BAR_TIME,
            TimeRange.of(start, end),
            version,
            at,
            as_float,
        )

    def moves(
        self,
        venue: str | None = None,
        symbol: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        version: int | None = None,
        at: Time | None = None,
        as_float: bool = False,
    ) -> Scan:
        """Scan gold/moves: minutes whose price moved beyond the setting `move_threshold`."""
        return self._scan(
            GOLD_MOVES, market_filters(venue, symbol), _BAR_TIME, TimeRange.of(start, end), version, at, as_float
        )

    def spreads(
        self,
        symbol: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        version: int | None = None,
        at: Time | None = None,
        as_float: bool = False,
    ) -> Scan:
        """Scan gold/spreads_1m: the price of a pair at each venue, and the widest difference, by minute."""
        filters: list[Filter] = []
        if symbol is not None:
            base, quote = canonical(symbol).split("/")
            filters = [("base", "=", base), ("quote", "=", quote)]
        return self._scan(GOLD_SPREADS_1M, filters, _BAR_TIME, TimeRange.of(start, end), version, at, as_float)

    def completeness(
        self,
        venue: str | None = None,
        symbol: str | None = None,
        *,
        size: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        version: int | None = None,
        at: Time | None = None,
    ) -> Scan:
        """Scan certificates (`client.completeness`): one row per market, or with `size` one row per market and bar.

        A `size` needs a `start`.
        """
        minutes, wanted = size and client_bars.minutes_of(size), TimeRange.of(start, end)
        scan = self._scan(SILVER_CONTINUITY, market_filters(venue, symbol), None, wanted, version, at, False)

        def made(ranges: pa.Table) -> pa.Table:
            if not minutes:
                return certificates(self.settings, ranges, wanted, self._open_at)
            return bar_certificates(self.settings, ranges, wanted, minutes, self._open_at)

        return dataclasses.replace(scan, made=made)

    def _scan(
        self,
        table: Table,
        filters: Iterable[Filter],
        time: tuple[str, str] | None,
        wanted: TimeRange,
        version: int | None,
        at: Time | None,
        as_float: bool,
    ) -> Scan:
        if version is not None and at is not None:
            raise SettingError("both a version and a time", "one of them")
        of_time = [] if time is None else wanted.filters(*time)
        return Scan(
            self.settings,
            table,
            self._version(table, version, at),
            (*filters, *of_time),
            order=table.key,
            as_float=as_float,
            open_at=self._open_at,
        )

    def _version(self, table: Table, version: int | None, at: Time | None) -> int:
        if version is not None:
            return version
        if at is None:
            return table_io.open_table(self.settings, table).version()
        wanted = moment(at)
        try:
            opened = DeltaTable(table_io.table_uri(self.settings, table))
            opened.load_as_version(wanted)
        except (DeltaError, TableNotFoundError) as error:
            raise TerminalError(
                f"{table.path} as it was at {wanted.isoformat()} is not known ({str(error).splitlines()[0][:160]})",
                "a time of the last hour",
            ) from error
        return opened.version()

    def _known_until(self, scan: Scan, wanted: TimeRange) -> dt.datetime | None:
        """Return the end of the range, but not beyond the newest bar of any market; None if the range has no end."""
        if wanted.end is None:
            return None
        newest = dataclasses.replace(
            scan, filters=tuple(TimeRange(wanted.start, None).filters("bar_start", "bar_date")), order=(), made=None
        )
        column = table_io.sql(self.settings, f"SELECT max(bar_start) AS m FROM ({newest.sql})", rows=newest.opened())
        found = column.column("m")[0].as_py()
        return None if found is None else min(wanted.end, found)


_BAR_TIME = ("bar_start", "bar_date")
