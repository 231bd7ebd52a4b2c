"""The rows that a request asks for, before a table is opened: kind, market, range, size; and the limits of a range."""

from __future__ import annotations

import datetime as dt
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from lakehouse.client.bars import minutes_of
from lakehouse.client.lake import Fill, Lake
from lakehouse.client.scan import Scan
from lakehouse.client.time_range import TimeRange, moment
from lakehouse.serving.opened import Opened
from lakehouse.serving.problems import Problem
from lakehouse.tables import (
    BARS,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    SILVER_CONTINUITY,
    SILVER_TRADES,
    Table,
)

Kind = Literal["trades", "bars", "indicators", "moves", "spreads", "completeness"]

_TABLES: dict[str, Table] = {
    "trades": SILVER_TRADES,
    "indicators": GOLD_INDICATORS_1M,
    "moves": GOLD_MOVES,
    "spreads": GOLD_SPREADS_1M,
    "completeness": SILVER_CONTINUITY,
}
#: Longest range in rows of one market: 31 days of one-minute rows, 155 days of five-minute bars.
MOST_MINUTES = 31 * 1440
#: Longest range of trades: of one market, and of several, whose trades are all sorted for each page.
MOST_TRADES = dt.timedelta(days=1)
MOST_TRADES_OF_ALL = dt.timedelta(hours=1)
#: Longest range of a certificate, whose trades are all counted.
MOST_CERTIFIED = dt.timedelta(days=31)
#: Most bars of which certificates are asked at once.
MOST_CERTIFIED_BARS = 2_000
#: Ranges without a start: so much before the newest row, or before the end.
DEFAULT_TRADES = dt.timedelta(minutes=10)
DEFAULT_ROWS = 500
#: The statistics in a table's log may be cut to the millisecond below.
_TICK = dt.timedelta(milliseconds=1)
#: Times that DataFusion can compare, which counts nanoseconds in 64 bits.
_FIRST, _LAST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Wanted:
    """The parameters of a request; None for a parameter that the request does not have."""

    kind: Kind
    venue: str | None = None
    symbol: str | None = None
    start: str | None = None
    end: str | None = None
    size: str | None = None
    fill: str = "none"

    def digest(self) -> str:
        """Return a digest of the query; another query has another digest."""
        values = (self.kind, self.venue, self.symbol, self.start, self.end, self.size, self.fill)
        return hashlib.blake2b(msgspec.json.encode(values), digest_size=9).hexdigest()

    def table(self, lake: Lake) -> Table:
        """Return the table to read. Raises SettingError for a size that does not divide a day."""
        return BARS[lake.bar_minutes(self.size or "1m")] if self.kind == "bars" else _TABLES[self.kind]

    def key(self, table: Table) -> tuple[str, ...]:
        """Return the columns that order the rows and are unique."""
        if self.kind != "completeness":
            return table.key
        return ("venue", "symbol") if self.size is None else ("venue", "symbol", "bar_start")

    def range(self) -> TimeRange:
        """Return the range as it was named.

        Raises SettingError for a time that cannot be read, Problem for a year that is not from 1970 to 2199.
        """
        found = TimeRange.of(self.start, self.end)
        refuse_years(found)
        return found

    def whole_range(self, opened: Opened) -> TimeRange:
        """Return the range with a missing end and start filled in; for completeness, the range as it was named.

        A missing end is just after the newest row. A missing start lies before the end: by DEFAULT_TRADES for trades,
        else by DEFAULT_ROWS rows, `most` at most. For an empty table either may stay None. Raises like `range`.
        """
        start, end = self.range()
        if self.kind == "completeness":
            return TimeRange(start, end)
        if end is None and opened.newest is not None:
            end = opened.newest + _TICK
        if start is None and end is not None:
            rows = DEFAULT_ROWS * self.length()
            start = end - (DEFAULT_TRADES if self.kind == "trades" else min(rows, self.most(opened.table)))
        if start is not None and end is not None and end < start:  # all rows are before the start
            end = start
        return TimeRange(start, end)

    def most(self, table: Table) -> dt.timedelta:
        """Return the length of the longest range that is served."""
        if self.kind == "trades":
            return MOST_TRADES_OF_ALL if self.venue is None or self.symbol is None else MOST_TRADES
        if self.kind == "completeness":
            return MOST_CERTIFIED if self.size is None else min(MOST_CERTIFIED, MOST_CERTIFIED_BARS * self.length())
        stored = next((length for length, one in BARS.items() if one == table), 1)
        return dt.timedelta(minutes=MOST_MINUTES * stored)

    def refuse_too_large(self, wanted: TimeRange, table: Table) -> None:
        """Raise Problem if the range is too large; its detail names the command that exports the range."""
        if wanted.start is None or wanted.end is None or wanted.end - wanted.start <= self.most(table):
            return
        most = self.most(table)
        hours = most / dt.timedelta(hours=1)
        most_text = f"{most.days} days" if hours > 24 else f"{hours:.3g} hours"
        instead = "ask in parts" if self.kind == "completeness" else f"ask in parts, or run `{self.export(wanted)}`"
        raise Problem(
            "range-too-large",
            f"{self.kind} of {wanted.end - wanted.start}; expected {most_text} at most"
            f"{' without a venue and a symbol' if most == MOST_TRADES_OF_ALL else ''}; {instead}",
        )

    def export(self, wanted: TimeRange) -> str:
        """Return the command that writes the range to files."""
        words = ["lakehouse", "export", self.kind]
        for option, value in (("--venue", self.venue), ("--symbol", self.symbol)):
            words += [option, value] if value is not None else []
        words += ["--size", self.size or "1m"] if self.kind == "bars" else []
        for option, time in (("--from", wanted.start), ("--to", wanted.end)):
            words += [option, time.isoformat()] if time is not None else []
        return shlex.join([*words, "--out", f"{self.kind}.parquet"])

    def scan(self, lake: Lake, wanted: TimeRange, version: int) -> Scan:
        """Return the client's scan of a range. Raises SettingError for an unknown venue or a malformed symbol."""
        times: dict[str, Any] = {"start": wanted.start, "end": wanted.end, "version": version}
        if self.kind == "bars":
            size, fill = self.size or "1m", cast("Fill", self.fill)
            return lake.bars(self.venue, self.symbol, size=size, fill=fill, **times)
        if self.kind == "completeness":
            return lake.completeness(self.venue, self.symbol, size=self.size, **times)
        if self.kind == "spreads":
            return lake.spreads(self.symbol, **times)
        method: Callable[..., Scan] = getattr(lake, self.kind)
        return method(self.venue, self.symbol, **times)

    def length(self) -> dt.timedelta:
        """Return the length of the wanted bars; a minute if the request names no size."""
        return dt.timedelta(minutes=1 if self.size is None else minutes_of(self.size))


def refuse_years(wanted: TimeRange) -> None:
    """Raise Problem for a range with a time that DataFusion cannot compare."""
    for name, time in zip(("start", "end"), wanted, strict=True):
        if time is not None and not _FIRST <= time <= _LAST:
            raise Problem("bad-parameter", f"{name} {time.isoformat()}; expected a year from 1970 to 2199")


def certified_range(wanted: TimeRange, trades: Opened) -> TimeRange:
    """Return the range whose trades a certificate counts: `wanted`, with a missing limit from the table's days.

    Return `wanted` unchanged if both limits are missing, or the table has no day.
    """
    days = [day for day in trades.days if day is not None]
    if not days or wanted == TimeRange(None, None):
        return wanted
    return TimeRange(wanted.start or moment(min(days)), wanted.end or moment(max(days)) + dt.timedelta(days=1))
