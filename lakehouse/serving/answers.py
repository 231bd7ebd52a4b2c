"""Answers about tables: find the version, refuse too large a range, read a page, write it in the accepted form."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from lakehouse.client import Lake
from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError
from lakehouse.lake.unreadable import READ_ERRORS, UnreadableVersionError
from lakehouse.prices.follower import Prices
from lakehouse.serving.bar_changes import BarChanges
from lakehouse.serving.cursor import Cursor, micros, moment, read_cursor
from lakehouse.serving.fan_out import FanOut
from lakehouse.serving.forms import MEDIA_TYPES, Form, accepted, write
from lakehouse.serving.frames import Frames
from lakehouse.serving.opened import Opened, OpenTables
from lakehouse.serving.pool import Pool
from lakehouse.serving.problems import Problem
from lakehouse.serving.reader import Call, Page, Reader
from lakehouse.serving.seam import Seams
from lakehouse.serving.wanted import Wanted, certified_range, refuse_years
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES, Table

T = TypeVar("T")

#: A client may keep an answer, and must ask whether it is still right (ETag).
KEEP = {"Cache-Control": "private, no-cache", "Vary": "Accept"}
NO_STORE = {"Cache-Control": "no-store", "Vary": "Accept"}


class Api:
    """The shared parts of one server: settings, tables, memory, prices, pool."""

    def __init__(self, settings: Settings, pool: Pool | None = None) -> None:
        self.settings = settings
        self.frames = Frames(settings)
        self.tables = OpenTables(settings, self.frames.renew)
        self.lake = Lake(settings, self.tables.delta)
        self.bar_changes = BarChanges()
        self.reader = Reader(settings, self.tables, self.frames)
        self.fan_out = FanOut()
        self.prices = Prices(settings, self.fan_out)
        self.seams = Seams(settings)
        self.pool = pool or Pool()
        self.started = time.monotonic()


@dataclass(frozen=True)
class Answer:
    """An answer to send. `body` is None if the client's copy is still right."""

    body: bytes | None
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """The part of a request that is not about rows: headers, path and query, page."""

    accept: str | None
    if_none_match: str | None
    path: str
    query: Mapping[str, str]
    limit: int
    cursor: str | None

    def form(self) -> Form:
        """Return the form to answer in. Raises Problem if none is accepted."""
        return accepted(self.accept)

    def has(self, tag: str) -> bool:
        """Return whether the client has the answer with an ETag already (RFC 9110, 13.1.2)."""
        return self.if_none_match is not None and any(
            one.strip() in ("*", tag) for one in self.if_none_match.split(",")
        )


def etag(opened: Opened, *values: object) -> str:
    """Return the ETag of what a query answers at a table's version. It is weak, because gzip changes the bytes."""
    text = repr((opened.table_id, opened.table.path, opened.version, *values))
    return f'W/"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def rows(api: Api, wanted: Wanted, asked: Asked, call: Call) -> Answer:
    """Answer with a page of rows. Raises Problem, and WouldBlockError if that would block and `call.wait` is False."""
    return _told(lambda: _rows(api, wanted, asked, call))


def _rows(api: Api, wanted: Wanted, asked: Asked, call: Call) -> Answer:
    form = asked.form()
    table = wanted.table(api.lake)
    named = wanted.range()
    wanted.scan(api.lake, named, 0)  # refuses a venue or a symbol that there cannot be; reads nothing
    place = None if asked.cursor is None else _place(asked.cursor, wanted)
    opened = api.tables.newest(table, call.wait) if place is None else _of_cursor(api, table, place, call)
    tag = etag(opened, wanted, asked.limit, asked.cursor, form)
    headers = {**KEEP, "ETag": tag, "X-Table": table.path, "X-Table-Version": str(opened.version)}
    if asked.has(tag):
        return Answer(None, MEDIA_TYPES[form], headers)
    whole = wanted.whole_range(opened) if place is None else _range(place, wanted)
    counted = whole
    if wanted.kind == "completeness" and whole != TimeRange(None, None):
        counted = certified_range(whole, api.tables.newest(SILVER_TRADES, call.wait))
    wanted.refuse_too_large(counted, table)
    scan = wanted.scan(api.lake, whole, opened.version)
    after = () if place is None else place.key
    page = api.reader.page(scan, wanted.key(table), after, asked.limit, call, form)
    cursor = _next(page, opened, wanted, whole)
    about: dict[str, Any] = {"table": table.path, "version": opened.version, "next": cursor}
    if wanted.kind == "completeness":
        about["proof"] = _proof(opened, page)
    if cursor is not None:
        headers |= {"X-Next-Cursor": cursor, "Link": _link(asked, cursor)}
    return Answer(write(form, page.rows, about), MEDIA_TYPES[form], headers)


def _told(answer: Callable[[], T]) -> T:
    """Return an answer; errors of the client and of deltalake as problems."""
    try:
        return answer()
    except SettingError as error:
        raise Problem.of("bad-parameter", error) from None
    except READ_ERRORS as error:
        text = str(error).splitlines()[0][:300]
        raise Problem(
            "version-gone" if isinstance(error, UnreadableVersionError) else "lake-not-ready",
            f"{text}; expected files that are still kept; ask again, without a cursor",
            {"Retry-After": "2"},
        ) from None


def _place(text: str, wanted: Wanted) -> Cursor:
    place = read_cursor(text)
    if place.query != wanted.digest():
        raise Problem(
            "bad-cursor",
            "a cursor of another query; expected the same venue, symbol, start, end, size and fill as before",
        )
    return place


def _of_cursor(api: Api, table: Table, place: Cursor, call: Call) -> Opened:
    opened = api.tables.at(table, place.version, call.wait)
    if opened.table_id != place.table_id:
        raise Problem(
            "version-gone",
            f"a cursor of a table that was at {table.path} before; expected one of today's; ask again without a cursor",
        )
    return opened


def _range(place: Cursor, wanted: Wanted) -> TimeRange:
    found = TimeRange(*(None if one is None else moment(one) for one in (place.start, place.end)))
    if wanted.kind != "completeness" and None in found:
        raise Problem("bad-cursor", "a cursor without a range; expected one of an earlier answer, unchanged")
    refuse_years(found)
    return found


def _next(page: Page, opened: Opened, wanted: Wanted, whole: TimeRange) -> str | None:
    if page.next_key is None:
        return None
    start, end = (None if one is None else micros(one) for one in whole)
    return Cursor(opened.table_id, opened.version, wanted.digest(), page.next_key, start, end).text()


def _link(asked: Asked, cursor: str) -> str:
    return f'<{asked.path}?{urlencode({**asked.query, "cursor": cursor})}>; rel="next"'


def _proof(opened: Opened, page: Page) -> dict[str, Any]:
    assert not isinstance(page.rows, list)  # certificates are computed for each request
    column = page.rows.column("trades_version")
    return {
        "by": "the venue's own trade ids, which follow each other without a gap per market",
        "ledger": opened.table.path,
        "ledger_version": opened.version,
        "trades": SILVER_TRADES.path,
        "trades_version": column[0].as_py() if len(column) else None,
    }
