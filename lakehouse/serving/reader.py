"""Pages of rows: from the days in memory if they fit there, else by a query of the client.

The client decides what a request means (`Scan`: table, version, filters, what is computed from the rows); this module
only decides where the rows come from.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from lakehouse.client.filters import Value
from lakehouse.client.scan import Scan
from lakehouse.client.text import texts
from lakehouse.lake import table_io
from lakehouse.serving.cursor import from_key, micros, to_key
from lakehouse.serving.forms import Form, Rows
from lakehouse.serving.frames import MOST_DAY_ROWS, Bounds, Frame, Frames, select, select_json
from lakehouse.serving.opened import Opened, OpenTables, WouldBlockError
from lakehouse.serving.problems import Problem
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY

#: Rows of all days of a request up to which they are taken from memory.
MOST_FRAME_ROWS = 1_000_000
#: Rows up to which bars are computed from rows that are not in memory: some 500 MB.
MOST_COMPUTED_ROWS = 2_000_000
#: Rows and days up to which the event loop itself answers, in about a millisecond.
QUICK_ROWS = 2_000
QUICK_DAYS = 3

#: A row's key as a cursor holds it; rows that are exact, and the key of the last of them if there are more.
_Key = tuple[str | int, ...]
_Exact = tuple[pa.Table, _Key | None]


@dataclass(frozen=True)
class Call:
    """One run of a request's work.

    `wait` is False in the event loop. `seconds` is the time that the work may take, `deadline` its end in monotonic
    seconds.
    """

    wait: bool
    seconds: float
    deadline: float

    def check(self) -> None:
        """Raise Problem if the time for the query is over."""
        if time.monotonic() > self.deadline:
            raise self.too_slow()

    def too_slow(self) -> Problem:
        """Return the problem of a query whose time is over."""
        return Problem(
            "query-time",
            f"no answer within {self.seconds:g} s; expected a smaller query; name a venue, a symbol or a range",
            {"Retry-After": "5"},
        )


class Page(NamedTuple):
    """Rows as `forms.write` takes them, and the key after which the next page begins; None if there is no next page."""

    rows: Rows
    next_key: _Key | None


class Reader:
    """The rows of one lake."""

    def __init__(self, settings: Settings, tables: OpenTables, frames: Frames) -> None:
        self._settings = settings
        self._tables = tables
        self._frames = frames

    def page(
        self, scan: Scan, key: tuple[str, ...], after: tuple[str | int, ...], limit: int, call: Call, form: Form
    ) -> Page:
        """Return at most `limit` rows of a scan after the row with the key `after`, ready to be written in a form.

        Raises WouldBlockError if that would block and `call.wait` is False; Problem if it takes too long.
        """
        values = from_key(scan.schema, key, after) if after else ()
        opened = self._tables.at(scan.table, scan.version, call.wait)
        days = _days(opened, scan)
        rows = sum(opened.days[day].rows for day in days)
        if not call.wait and (limit > QUICK_ROWS or len(days) > QUICK_DAYS):
            raise WouldBlockError
        if scan.made is not None:
            return _ready(*_cut(scan.made(self._source(scan, opened, days, rows, call)), key, after, limit), form)
        if not _is_kept(opened, days, rows):
            return _ready(*self._queried(scan, key, values, limit, call), form)
        bounds = _bounds(scan, after)
        frames = self._day_frames(opened, days, call)
        if form != "json":
            return _ready(*_first(select(frames, scan.schema, bounds, limit + 1), key, limit), form)
        objects = select_json(frames, bounds, limit + 1)
        if len(objects) <= limit:
            return Page(objects, None)
        exact = select(frames, scan.schema, bounds, limit)
        return Page(objects[:limit], _key_of(exact, key, limit - 1))

    def _day_frames(self, opened: Opened, days: list[dt.date | None], call: Call) -> list[Frame]:
        frames = []
        for day in days:
            call.check()
            frames.append(self._frames.day(opened, day, call.wait))
        return frames

    def _source(self, scan: Scan, opened: Opened, days: list[dt.date | None], rows: int, call: Call) -> pa.Table:
        """Return the rows from which others are computed."""
        if not call.wait:
            raise WouldBlockError
        if _is_kept(opened, days, rows):
            schema = table_io.arrow_schema(scan.table)
            return select(self._day_frames(opened, days, call), schema, _bounds(scan, ()), None)
        parts, counted = [], 0
        for batch in _plain(scan).batches():
            call.check()
            counted += batch.num_rows
            if counted > MOST_COMPUTED_ROWS:
                raise Problem(
                    "range-too-large",
                    f"bars of more than {MOST_COMPUTED_ROWS:,} rows; expected a smaller range; name a venue and a "
                    "symbol, or run `lakehouse export bars`",
                )
            parts.append(batch)
        return pa.Table.from_batches(parts, table_io.arrow_schema(scan.table))

    def _queried(self, scan: Scan, key: tuple[str, ...], after: tuple[Value, ...], limit: int, call: Call) -> _Exact:
        if not call.wait:
            raise WouldBlockError
        batches = []
        for batch in scan.page(after, limit + 1).batches():
            call.check()
            batches.append(batch)
        return _first(pa.Table.from_batches(batches, scan.schema), key, limit)


def _ready(rows: pa.Table, next_key: _Key | None, form: Form) -> Page:
    return Page(rows if form == "arrow" else texts(rows), next_key)


def _plain(scan: Scan) -> Scan:
    return dataclasses.replace(scan, made=None)


def _is_kept(opened: Opened, days: list[dt.date | None], rows: int) -> bool:
    hot = opened.table.layer == "gold" or opened.table == SILVER_CONTINUITY
    return hot and rows <= MOST_FRAME_ROWS and all(opened.days[day].rows <= MOST_DAY_ROWS for day in days)


def _days(opened: Opened, scan: Scan) -> list[dt.date | None]:
    """Return the days whose rows a scan's filters can match, in order."""
    partition = opened.table.partition_by[:1]
    limits = {sign: value for column, sign, value in scan.filters if (column,) == partition}
    first, last = limits.get(">=", dt.date.min), limits.get("<=", dt.date.max)
    assert isinstance(first, dt.date)
    assert isinstance(last, dt.date)
    return [day for day in opened.days if day is None or first <= day <= last]


def _bounds(scan: Scan, after: tuple[str | int, ...]) -> Bounds:
    """Return a scan's filters as bounds of its table's key."""
    names: dict[str, str] = {}
    times: dict[str, int] = {}
    for column, sign, value in scan.filters:
        if sign == "=" and isinstance(value, str):
            names[column] = value
        elif isinstance(value, dt.datetime):
            times[sign] = micros(value)
    first, second, _ = scan.table.key
    place: Any = after or None
    return Bounds(names.get(first), names.get(second), times.get(">="), times.get("<"), place)


def _first(rows: pa.Table, key: tuple[str, ...], limit: int) -> _Exact:
    """Return the first rows, and the key of the last one of them if there are more."""
    return rows.slice(0, limit), _key_of(rows, key, limit - 1) if rows.num_rows > limit else None


def _cut(rows: pa.Table, key: tuple[str, ...], after: tuple[str | int, ...], limit: int) -> _Exact:
    """Return a page of rows that were computed as a whole, ordered by their key."""
    rows = rows.sort_by([(name, "ascending") for name in key])
    if after:
        columns = [rows.column(name).cast(pa.int64()) if _is_time(rows, name) else rows.column(name) for name in key]
        keys = list(zip(*(column.to_pylist() for column in columns), strict=True))
        rows = rows.slice(bisect.bisect_right(keys, after))
    return _first(rows, key, limit)


def _is_time(rows: pa.Table, name: str) -> bool:
    return bool(pa.types.is_timestamp(rows.schema.field(name).type))


def _key_of(rows: pa.Table, key: tuple[str, ...], at: int) -> _Key:
    return to_key(tuple(rows.column(name)[at].as_py() for name in key))
