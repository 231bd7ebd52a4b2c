"""Fetch a range of trade ids from Binance's REST API: `historicalTrades`, ascending from an id.

Source: "Market Data endpoints" of the Binance spot API documentation. If an id is older than Binance's history, the
reply silently begins with the oldest trade that it has, so the first id of a page is compared with the one asked for.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from lakehouse.errors import VenueError
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
    shown,
    unreadable_row,
)
from lakehouse.exchanges.id_walk import IdWalk
from lakehouse.exchanges.json_fields import DecimalText, TradeId, epoch_micros
from lakehouse.exchanges.model import Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check
from lakehouse.exchanges.retry_after import retry_after

VENUE = "binance"
#: REST rate limit: a weight of 6,000 a minute for each IP address [documentation].
BUDGET = Budget(6000.0, 60.0)
#: The weight of one request for historicalTrades or trades, whatever its `limit` of rows [documentation].
WEIGHT = 25.0

#: Without it times are milliseconds. Both are understood.
_HEADERS = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_INVALID_SYMBOL = -1121
#: "Illegal characters found in parameter 'symbol'", "Mandatory parameter 'symbol' was … malformed", "Parameter 'symbol'
#: was empty", "Data sent for parameter 'symbol' is not valid": a name of a form that the venue has for none.
_ABOUT_A_PARAMETER = (-1100, -1102, -1105, -1130)
#: Unknown, disconnected, too many requests, unexpected response, timeout, overloaded, too many orders, shutting down.
_PASSING_CODES = (-1000, -1001, -1003, -1006, -1007, -1008, -1015, -1016)


class _Row(msgspec.Struct):
    """A row of historicalTrades and trades."""

    id: TradeId
    price: DecimalText
    qty: DecimalText
    time: int
    isBuyerMaker: bool  # noqa: N815 - the venue's name


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


_read_row = msgspec.json.Decoder(_Row).decode
_read_error = msgspec.json.Decoder(_Error).decode

_CHECKS: tuple[tuple[str, Check], ...] = (
    ("id", parse_errors.trade_id),
    ("price", parse_errors.decimal_string),
    ("qty", parse_errors.decimal_string),
    ("time", parse_errors.epoch_time),
    ("isBuyerMaker", parse_errors.boolean),
)


class BinanceHistory(IdWalk):
    """Binance's `History`: fetch pages upwards from the first id; each begins after the last id of the page before."""

    def __init__(self, symbol: str, native: str, first_id: int, last_id: int, page: int = PAGE_TRADES) -> None:
        super().__init__(symbol, native, first_id, last_id, page)
        self._next = first_id

    def request(self) -> Request | None:
        """Return the next request, for as many rows as ids are left, 1,000 at most. None if the walk has ended.

        If Binance skipped ids, the page reaches beyond the last id of the range.
        """
        if self._ended:
            return None
        params = {"symbol": self._native, "fromId": str(self._next), "limit": str(self._limit())}
        return Request("/api/v3/historicalTrades", params, _HEADERS, WEIGHT)

    def take(self, reply: Reply) -> Page:
        """Take the reply to `request`, return its trades and move the walk on. Raises VenueError or TerminalError."""
        rows = self.read(reply, self._symbol, self._native)
        page = self._keep(rows)
        ids = {trade_id for trade_id, _ in rows if trade_id is not None and trade_id >= self._next}
        # Rows ascend, so each bad one at the end of the page stands for one more id at least.
        bad_at_end = len(list(takewhile(lambda row: row.trade_id is None, reversed(rows))))
        reached = max(ids, default=self._next - 1) + bad_at_end
        # A page that takes the walk less far than its limit ends the history: what is left is not in REST yet.
        self._ended |= reached - self._next + 1 < self._limit()
        if reached >= self._next:
            self._saw(reached)
            # Also from the asked id to a higher first one: it is skipped, or older than the history.
            self._cover(self._next, reached)
            self._next = reached + 1
        self._ended |= self._next > self._last
        return page

    @staticmethod
    def newest(native: str) -> Request:
        """Return the request for the newest trade of a symbol, by its native name."""
        return Request("/api/v3/trades", {"symbol": native, "limit": "1"}, _HEADERS, WEIGHT)

    @staticmethod
    def read(reply: Reply, symbol: str | None, native: str) -> list[Row]:
        """Return a reply's rows, each a Trade or a Rejected. Raises VenueError or TerminalError if it is not a page."""
        return [_row(raw, symbol or "", native, reply.ts_ingest) for raw in _rows(reply, symbol)]

    def _limit(self) -> int:
        return max(1, min(self._page, self._last - self._next + 1))


def _rows(reply: Reply, symbol: str | None) -> list[str]:
    """The rows of a page, verbatim. Raises VenueError or TerminalError if the reply holds none."""
    text = body_text(VENUE, reply)
    try:
        error = _read_error(text)
    except UNREADABLE:
        return array_rows(VENUE, reply, text)
    said = f"{error.msg or 'no message'} (code {error.code})"
    if error.code == _INVALID_SYMBOL or (error.code in _ABOUT_A_PARAMETER and "'symbol'" in (error.msg or "")):
        raise_unknown_symbol(VENUE, symbol, said)
    if reply.status == 200 or error.code in _PASSING_CODES:
        raise VenueError(f"{VENUE}'s REST failed: {shown(said)}", "trades", retry_after=retry_after(reply.headers))
    return array_rows(VENUE, reply, text)


def _row(raw: str, symbol: str, native: str, ts_ingest: int) -> Row:
    """One Trade or Rejected for each row."""
    try:
        row = _read_row(raw)
        ts_event = epoch_micros(row.time)
        if ts_event is not None and len(raw) <= MAX_RAW:
            trade = Trade(
                venue=VENUE,
                symbol=symbol,
                native_symbol=native,
                trade_id=row.id,
                price=row.price,
                size=row.qty,
                side="sell" if row.isBuyerMaker else "buy",  # the buyer is the maker, so the taker sold
                ts_event=ts_event,
                ts_ingest=ts_ingest,
                source="repair",
                raw=raw,
            )
            return Row(row.id, trade)
    except UNREADABLE:
        pass
    return unreadable_row(VENUE, raw, "id", _CHECKS, ts_ingest, symbol)
