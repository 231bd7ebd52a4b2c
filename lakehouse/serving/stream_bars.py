"""The bars of a market over a WebSocket: first the bars so far, then each bar whenever it changes.

Guarantee: a client gets every bar of its range at least once, and again after each change, each time in the state that
the lake had at one of the looks, never an older one after a newer one. Changes between two looks come as one.
How: the past is read a UTC day at a time. Then each look compares the files of the table's newest version with those
of the version of the look before, and reads the files in which they differ (`bar_changes`). So the work and the memory
for a look do not depend on the length of the range.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from lakehouse.client.bars import minutes_of
from lakehouse.client.scan import Scan
from lakehouse.client.text import cell
from lakehouse.lake import table_io
from lakehouse.serving.answers import Api
from lakehouse.serving.bar_changes import Row, changed_days
from lakehouse.serving.opened import Opened
from lakehouse.tables import BARS
from lakehouse.transforms.time_ranges import time_ranges

#: Rows of one message at most, and seconds between two looks at Gold.
ROWS = 500
LOOK_SECONDS = 1.0

_DAY = dt.timedelta(days=1)


async def parts(
    api: Api, venue: str, symbol: str, size: str, start: dt.datetime | None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield messages: `bars` with rows, and `live` once, after the bars so far.

    Without a start, the bars so far are those that began within the last two bar lengths. A bar comes again whenever it
    changes: while its time runs, and after a repair.
    """
    begin = start or dt.datetime.now(dt.UTC) - 2 * dt.timedelta(minutes=minutes_of(size))
    bars = _Bars(api, venue, symbol, size, begin)
    seen = await asyncio.to_thread(bars.newest)
    await asyncio.to_thread(bars.look_for_final, seen)
    behind: dt.date | None = None
    while (found := await asyncio.to_thread(bars.next_day, behind)) is not None:
        opened, behind = found
        for message in _messages(await asyncio.to_thread(bars.of_day, opened, behind)):
            yield message
    yield {"type": "live"}
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        newest = await asyncio.to_thread(bars.newest)
        for day in changed_days(seen, newest, bars.first_day):
            for message in _messages(await asyncio.to_thread(bars.changed, seen, newest, day)):
                yield message
        seen = newest


def _messages(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for at in range(0, len(rows), ROWS):
        chunk = rows[at : at + ROWS]
        yield {"type": "bars", "rows": [{name: cell(value) for name, value in row.items()} for row in chunk]}


class _Bars:
    """The bars of one client: a market and a size, from `begin` on."""

    def __init__(self, api: Api, venue: str, symbol: str, size: str, begin: dt.datetime) -> None:
        self._api = api
        self._market = (venue, symbol)
        self._size = size
        self._begin = begin
        self._length = dt.timedelta(minutes=minutes_of(size))
        shorter = api.lake.bar_minutes(size)
        self._table = BARS[shorter]
        self._shorter = dt.timedelta(minutes=shorter)
        self._is_stored = self._shorter == self._length
        #: End of the market's newest final bar of the table; a bar that ends by then is final.
        self._final = begin
        #: Computed bars of the look before, by their start, so that those that are the same are not sent again.
        self._known: dict[dt.datetime, Row] = {}

    @property
    def first_day(self) -> dt.date:
        """The first UTC day whose files may hold rows from which a bar of the range is made."""
        return (self._begin if self._is_stored else self._begin - self._length).date()

    def newest(self) -> Opened:
        """Return the table at its newest version."""
        return self._api.tables.newest(self._table)

    def next_day(self, behind: dt.date | None) -> tuple[Opened, dt.date] | None:
        """Return the newest version and its first UTC day of the range after the day `behind`; None if there is none.

        `behind` is None at the beginning.
        """
        opened = self.newest()
        first = self._begin.date() if behind is None else behind + _DAY
        days = [day for day in opened.days if day is not None and day >= first]
        return (opened, min(days)) if days else None

    def look_for_final(self, opened: Opened) -> None:
        """Find the market's newest final bar, by which a computed bar is final though its own rows do not tell."""
        if self._is_stored:
            return
        scan = dataclasses.replace(self._scan(opened, self._begin, None), made=None, order=())
        query = f"SELECT max(bar_start) AS newest FROM ({scan.sql}) WHERE is_final"
        found = table_io.sql(self._api.settings, query, rows=scan.opened()).column("newest")[0].as_py()
        if found is not None:
            self._final = max(self._final, found + self._shorter)

    def of_day(self, opened: Opened, day: dt.date) -> list[Row]:
        """Read the bars of a UTC day."""
        midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
        return self._read(opened, midnight, midnight + _DAY)

    def changed(self, before: Opened, after: Opened, day: dt.date) -> list[Row]:
        """Read the bars that have changed by changes of a UTC day's rows between two versions."""
        rows = self._api.bar_changes.between(before, after, day, self._market)
        if self._is_stored:
            return [row for row in rows if row["bar_start"] >= self._begin]
        if not rows:
            return []
        windows = {_floor(row["bar_start"], self._length) for row in rows}
        final = max((row["bar_start"] + self._shorter for row in rows if row["is_final"]), default=self._final)
        if final > self._final:
            # All rows of this one's bar may have been final before; that the rest of its time is empty is known now.
            windows.add(_floor(self._final - self._shorter, self._length))
            self._final = final
        # A bar's neighbours too: their trade ids tell whether it is complete.
        ranges = time_ranges(windows, self._length, slack=self._length)
        found = [row for one in ranges for row in self._read(after, one.start, one.end)]
        known, self._known = self._known, {row["bar_start"]: row for row in found}
        return [row for row in found if known.get(row["bar_start"]) != row]

    def _read(self, opened: Opened, start: dt.datetime, end: dt.datetime) -> list[Row]:
        if end <= self._begin:
            return []
        rows: list[Row] = self._scan(opened, max(start, self._begin), end).arrow().to_pylist()
        for row in rows:
            row["is_final"] = row["is_final"] or (
                not self._is_stored and row["bar_start"] + self._length <= self._final
            )
        return rows

    def _scan(self, opened: Opened, start: dt.datetime, end: dt.datetime | None) -> Scan:
        venue, symbol = self._market
        scan = self._api.lake.bars(venue, symbol, size=self._size, start=start, end=end, version=opened.version)
        return dataclasses.replace(scan, open_at=lambda _table, _version: opened.delta)


def _floor(at: dt.datetime, length: dt.timedelta) -> dt.datetime:
    """Return the start of the window that holds a time."""
    return at - (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) % length
