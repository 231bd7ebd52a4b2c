"""Fetch a range of trade ids from Coinbase's REST API: `/products/{id}/trades`, newest first, older than an id.

Source: "Get product trades" of the Coinbase Exchange API documentation. `side` is the maker's, as on the socket; times
may have milliseconds where the socket has microseconds.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Literal
from urllib.parse import quote

import msgspec

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.history import (
    PAGE_TRADES,
    Budget,
    Page,
    Reply,
    Request,
    Row,
    array_rows,
    body_text,
    raise_unknown_symbol,
    unreadable_row,
)
from lakehouse.exchanges.id_walk import IdWalk
from lakehouse.exchanges.json_fields import DecimalText, TradeId, iso_micros
from lakehouse.exchanges.model import Side, Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check

VENUE = "coinbase"
#: REST rate limit of the public endpoints, for each IP address: 10 requests a second [documentation].
BUDGET = Budget(10.0, 1.0)
#: A walk ends after more than this many pages that are neither full nor empty: a sound history has fewer.
MOST_SHORT_PAGES = 8

_TAKER: dict[str, Side] = {"buy": "sell", "sell": "buy"}


class _Row(msgspec.Struct):
    """A trade. `side` is the maker's."""

    time: str
    trade_id: TradeId
    price: DecimalText
    size: DecimalText
    side: Literal["buy", "sell"]


_read_row = msgspec.json.Decoder(_Row).decode

_CHECKS: tuple[tuple[str, Check], ...] = (
    ("trade_id", parse_errors.trade_id),
    ("price", parse_errors.decimal_string),
    ("size", parse_errors.decimal_string),
    ("side", parse_errors.side),
    ("time", parse_errors.iso_time),
)


class CoinbaseHistory(IdWalk):
    """Coinbase's `History`: fetch pages downwards from the last id of the range.

    The first page begins one id above the range, because a trade there proves that REST does not lag. If the page has
    neither that trade nor the range's last one, REST is asked for its newest trade; only pages fetched afterwards
    distinguish an id that Coinbase skipped from an id that REST does not have yet.
    """

    def __init__(self, symbol: str, native: str, first_id: int, last_id: int, page: int = PAGE_TRADES) -> None:
        super().__init__(symbol, native, first_id, last_id, page)
        #: Pages are older than this id.
        self._after = last_id + 2
        #: REST had all ids up to this one before the current page was asked for; None: that is not known.
        self._top: int | None = None
        self._probing = False
        self._short_pages = 0

    def request(self) -> Request | None:
        """Return the next request: a page of older trades, or the newest trade. None if the walk has ended."""
        if self._ended:
            return None
        if self._probing:
            return self.newest(self._native)
        params = {"limit": str(self._limit()), "after": str(self._after)}
        return Request(_path(self._native), params, {}, 1.0)

    def take(self, reply: Reply) -> Page:
        """Take the reply to `request`, return its trades and move the walk on. Raises VenueError or TerminalError."""
        rows = self.read(reply, self._symbol, self._native)
        page = self._keep(rows)
        if self._probing:
            self._probed()
        else:
            self._walked(rows)
        return page

    def _walked(self, rows: list[Row]) -> None:
        """Note what a page of the walk shows, and where the next one begins."""
        ids = {trade_id for trade_id, _ in rows if trade_id is not None and trade_id < self._after}
        if self._top is None:
            if max(ids, default=-1) < self._last:
                self._probing = True
                return
            self._top = self._last
        top = min(self._top, self._after - 1)
        if not rows:  # nothing is older: the rest is older than the history
            self._cover(self._first, top)
            self._ended = True
            return
        # Rows descend, so each bad one at the end of the page stands for one more id at least.
        bad_at_end = len(list(takewhile(lambda row: row.trade_id is None, reversed(rows))))
        reached = min(ids, default=self._after) - bad_at_end
        self._short_pages += self._after - reached < self._limit()
        if reached < self._after:
            self._cover(reached, top)
            self._after = reached
        if self._after <= self._first or self._short_pages > MOST_SHORT_PAGES:
            self._ended = True

    def _probed(self) -> None:
        """Ask for the page again, from REST's newest trade downwards, which is known now."""
        self._probing = False
        self._top = -1 if self._newest is None else self._newest
        self._after = min(self._top, self._last + 1) + 1
        if self._after <= self._first:
            self._ended = True  # REST has nothing of the range yet

    @staticmethod
    def newest(native: str) -> Request:
        """Return the request for the newest trade of a symbol, by its native name."""
        return Request(_path(native), {"limit": "1"}, {}, 1.0)

    @staticmethod
    def read(reply: Reply, symbol: str | None, native: str) -> list[Row]:
        """Return a reply's rows, each a Trade or a Rejected. Raises VenueError or TerminalError if it is not a page."""
        return [_row(raw, symbol or "", native, reply.ts_ingest) for raw in _rows(reply, symbol)]

    def _limit(self) -> int:
        return max(1, min(self._page, self._after - self._first))


def _path(native: str) -> str:
    return f"/products/{quote(native, safe='')}/trades"


def _rows(reply: Reply, symbol: str | None) -> list[str]:
    """The rows of a page, verbatim. Raises VenueError or TerminalError if the reply holds none."""
    text = body_text(VENUE, reply)
    if reply.status == 404:  # {"message":"NotFound"}
        raise_unknown_symbol(VENUE, symbol, text)
    return array_rows(VENUE, reply, text)


def _row(raw: str, symbol: str, native: str, ts_ingest: int) -> Row:
    """One Trade or Rejected for each row."""
    try:
        row = _read_row(raw)
        ts_event = iso_micros(row.time)
        if ts_event is not None and len(raw) <= MAX_RAW:
            trade = Trade(
                venue=VENUE,
                symbol=symbol,
                native_symbol=native,
                trade_id=row.trade_id,
                price=row.price,
                size=row.size,
                side=_TAKER[row.side],
                ts_event=ts_event,
                ts_ingest=ts_ingest,
                source="repair",
                raw=raw,
            )
            return Row(row.trade_id, trade)
    except UNREADABLE:
        pass
    return unreadable_row(VENUE, raw, "trade_id", _CHECKS, ts_ingest, symbol)
