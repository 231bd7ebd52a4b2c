"""Build requests to Kraken's `/0/public/Trades` and parse the replies: rows, and errors, which come inside HTTP 200.

Source: "Get Recent Trades" and "API errors" of the Kraken API documentation.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, NoReturn

import msgspec

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.history import (
    Budget,
    Reply,
    Request,
    Row,
    body_text,
    raise_for_status,
    raise_unknown_symbol,
    raise_unreadable,
    readable_id,
    shown,
)
from lakehouse.exchanges.json_fields import DecimalText, TradeId, seconds_nanos
from lakehouse.exchanges.kraken.names import asset_class, rest_pair
from lakehouse.exchanges.model import Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check, Fault

VENUE = "kraken"
#: REST rate limit: about one request a second is safe for each IP address [users' reports].
BUDGET = Budget(1.0, 1.0)
#: Seconds to wait if Kraken limits us, because it names none: its counter needs some seconds to fall.
LIMITED_SECONDS = 5.0
#: Seconds to wait after a temporary lockout: it lasts about a quarter of an hour [documentation].
LOCKOUT_SECONDS = 900.0

_UNKNOWN_SYMBOL = ("EQuery:Unknown asset", "EQuery:Invalid asset")
_LIMITED = ("EAPI:Rate limit", "EGeneral:Too many requests", "EService:Throttled")
_LOCKOUT = ("EGeneral:Temporary lockout",)
_REFUSED = ("EGeneral:Invalid arguments", "EGeneral:Permission denied", "EGeneral:Unknown method")

_is_nanos = re.compile(r"[0-9]{1,19}").fullmatch


class _Row(msgspec.Struct, array_like=True):
    """A row: price, size, epoch seconds, b or s (the taker's side), l or m, miscellaneous, trade id."""

    price: DecimalText
    size: DecimalText
    time: msgspec.Raw
    side: Literal["b", "s"]
    kind: msgspec.Raw
    misc: msgspec.Raw
    trade_id: TradeId


_FIELDS = _Row.__struct_fields__
_read_row = msgspec.json.Decoder(_Row).decode
_read_errors = msgspec.json.Decoder(list[str]).decode

_CHECKS: tuple[tuple[str, Check], ...] = (
    ("trade_id", parse_errors.trade_id),
    ("price", parse_errors.decimal_string),
    ("size", parse_errors.decimal_string),
    ("side", parse_errors.kraken_side),
    ("time", parse_errors.epoch_seconds),
)


class TradesPage(NamedTuple):
    """A parsed page of trades: `rows`, ascending, and `last`, the time (ns) of the last row; None if unreadable."""

    rows: list[Row]
    last: int | None


def trades_request(symbol: str, since: int | None, count: int | None) -> Request:
    """Return the request for up to `count` trades later than `since` (ns); `since` None: for the newest thousand.

    `symbol` is canonical. `count` None leaves the number to Kraken (1,000).
    """
    params = {"pair": rest_pair(symbol)}
    if (name := asset_class(symbol)) is not None:
        params["asset_class"] = name
    if since is not None:
        params["since"] = str(since)
    if count is not None:
        params["count"] = str(count)
    return Request("/0/public/Trades", params, {}, 1.0)


def read_page(reply: Reply, symbol: str | None) -> TradesPage:
    """Parse the reply to `trades_request`. Raises VenueError (ask again later) or TerminalError if it has no page.

    `symbol` (canonical) goes into the trades and the errors; None if the caller does not know it.
    """
    text = body_text(VENUE, reply)
    fields = parse_errors.object_fields(text)
    if isinstance(fields, Fault):
        raise_for_status(VENUE, reply)
        raise_unreadable(VENUE, text, "an object with error and result")
    errors = [error for error in _errors(fields.get("error", "[]"), text) if not error.startswith("W")]  # W: a warning
    if errors:
        _raise_errors(errors, symbol)
    raise_for_status(VENUE, reply)
    result = parse_errors.object_fields(fields.get("result", "null"))
    # The key may differ from the asked pair: XXBTZUSD for XBTUSD.
    keys = [] if isinstance(result, Fault) else [key for key in result if key != "last"]
    if isinstance(result, Fault) or len(keys) != 1:
        raise_unreadable(VENUE, text, "a result with one pair and last")
    items = parse_errors.array_items(result[keys[0]])
    if isinstance(items, Fault):
        raise_unreadable(VENUE, text, "an array of trades")
    rows = [_row(raw, symbol or "", reply.ts_ingest) for raw in items]
    literal = result.get("last", "")
    last = parse_errors.string(literal) or literal
    return TradesPage(rows, int(last) if _is_nanos(last) else None)


def _errors(literal: str, text: str) -> list[str]:
    try:
        return _read_errors(literal)
    except UNREADABLE:
        raise_unreadable(VENUE, text, "a list of errors")


def _raise_errors(errors: list[str], symbol: str | None) -> NoReturn:
    """The error that `EAPI:Rate limit exceeded` and the like stand for; what is not known may pass."""
    said = shown(", ".join(errors))

    def is_any(known: tuple[str, ...]) -> bool:
        return any(error.startswith(known) for error in errors)

    if is_any(_UNKNOWN_SYMBOL):
        raise_unknown_symbol(VENUE, symbol, said)
    if is_any(_LOCKOUT):
        raise VenueError(f"{VENUE} locked us out: {said}", retry_after=LOCKOUT_SECONDS)
    if is_any(_LIMITED):
        raise VenueError(f"{VENUE} limits our REST requests: {said}", retry_after=LIMITED_SECONDS)
    if is_any(_REFUSED):
        raise TerminalError(f"{VENUE} refused a REST request: {said}", "trades")
    raise VenueError(f"{VENUE}'s REST failed: {said}", "trades")


def _row(raw: str, symbol: str, ts_ingest: int) -> Row:
    """One Trade or Rejected for each row."""
    try:
        row = _read_row(raw)
        nanos = seconds_nanos(str(row.time, "utf-8"))
        if nanos is not None and len(raw) <= MAX_RAW:
            trade = Trade(
                venue=VENUE,
                symbol=symbol,
                native_symbol=symbol,  # the socket's name, so that a symbol has one spelling; rows name none
                trade_id=row.trade_id,
                price=row.price,
                size=row.size,
                side="buy" if row.side == "b" else "sell",
                ts_event=nanos // 1000,
                ts_ingest=ts_ingest,
                source="repair",
                raw=raw,
            )
            return Row(row.trade_id, trade)
    except UNREADABLE:
        pass
    items = parse_errors.array_items(raw)
    if isinstance(items, Fault):
        return Row(None, parse_errors.rejected(VENUE, items, raw, ts_ingest))
    fields = dict(zip(_FIELDS, items, strict=False))
    fault = parse_errors.explain_fields(fields, raw, _CHECKS)
    return Row(readable_id(fields.get("trade_id")), parse_errors.rejected(VENUE, fault, raw, ts_ingest, symbol))
