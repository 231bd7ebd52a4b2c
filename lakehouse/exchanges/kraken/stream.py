"""Kraken spot's WebSocket protocol v2: the `trade` channel with its snapshot of the latest 50 trades.

Source: "Spot WebSocket v2" of the Kraken API documentation. Prices and sizes are JSON numbers; their literals are taken
as text. One message may carry many trades, and one bad trade does not spoil the others. Frames of v1 are recognised for
recorded files (`stream_v1`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.history import History, Reply, Request, newest_of
from lakehouse.exchanges.json_fields import TradeId, iso_micros, number_text
from lakehouse.exchanges.kraken import names, rest, stream_v1
from lakehouse.exchanges.kraken.history import KrakenHistory
from lakehouse.exchanges.kraken.rejected import frame_of
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Rejected, Source, Subscribed, Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check, Fault
from lakehouse.exchanges.venue import (
    Venue,
    VenueDefaults,
    http_root,
    known_symbol,
    request_number,
    symbol_in,
    websocket_root,
)

_SOURCES: dict[str, Source] = {"update": "live", "snapshot": "snapshot"}

#: The words for a symbol that Kraken does not list, and the symbol after them; the field `symbol` may be absent.
_unlisted = re.compile(r"Currency pair not supported(?:\s+([^\s,;]+))?").match
#: The reply to a second subscription of a symbol: as good as an acknowledgement.
_is_already = re.compile(r"already subscribed", re.IGNORECASE).match
#: Seen with a capital letter and no other field, at least for "Exceeded msg rate" [users' reports].
_ERRORS = ("error", "Error")


class _Frame(msgspec.Struct):
    """A frame of the trade channel."""

    channel: Literal["trade"]
    type: Literal["update", "snapshot"]
    data: list[msgspec.Raw]


class _Trade(msgspec.Struct):
    """One trade of a frame. `side` is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: TradeId
    timestamp: str


_read_frame = msgspec.json.Decoder(_Frame).decode
_read_trade = msgspec.json.Decoder(_Trade).decode


class Kraken(VenueDefaults):
    """Kraken spot over WebSocket v2, as a `Venue`. Its names are canonical; only v1 and REST still use XBT and XDG."""

    name = "kraken"
    #: A heartbeat comes about every second; the venue's own advice is to reconnect after 5 s without a message.
    silence_seconds = 5.0
    time_micros = 1
    rest_budget = rest.BUDGET

    def __init__(self) -> None:
        self._checks: tuple[tuple[str, Check], ...] = (
            ("symbol", parse_errors.symbol(self.canonical)),
            ("trade_id", parse_errors.trade_id),
            ("price", parse_errors.decimal_number),
            ("qty", parse_errors.decimal_number),
            ("side", parse_errors.side),
            ("timestamp", parse_errors.iso_time),
        )

    def for_symbols(self, symbols: Sequence[str]) -> Kraken:  # noqa: ARG002 - names are not ambiguous here
        """Return this object: Kraken's names are not ambiguous, so it reads the trades of any symbol."""
        return self

    def websocket_url(self, base: str | None, symbols: Sequence[str]) -> str:  # noqa: ARG002 - not part of the address
        """Return the address of the v2 endpoint. It names no symbols: messages subscribe them."""
        return "wss://ws.kraken.com/v2" if base is None else f"{websocket_root(base)}/kraken/v2"

    def rest_url(self, base: str | None) -> str:
        """Return the address above `/0/public/…`: the live host's, or the one below `base`, a simulator's root."""
        return "https://api.kraken.com" if base is None else f"{http_root(base)}/kraken"

    def native(self, symbol: str) -> str:
        """Return the canonical symbol itself, `BTC/USDT`: Kraken uses the same name on the socket."""
        return names.native(symbol)

    def canonical(self, native: str) -> str:
        """Return the canonical symbol: `XBT/USD` → `BTC/USD`. Raises ValueError if it is not BASE/QUOTE."""
        return names.canonical(native)

    def subscribe(self, symbols: Sequence[str], number: int = 1) -> list[bytes]:
        """Return one subscribe message for all symbols, with `number` as its `req_id`.

        `snapshot` is always set to true, because Kraken's documentation contradicts itself about the default.
        """
        params = {"channel": "trade", "symbol": [self.native(symbol) for symbol in symbols], "snapshot": True}
        return [msgspec.json.encode({"method": "subscribe", "params": params, "req_id": number})]

    def history(self, symbol: str, first_id: int, last_id: int, ts_before: int | None, ts_after: int | None) -> History:
        """Return a `History` that fetches `first_id`..`last_id` over REST: it finds the first id's time, then pages.

        `ts_before` and `ts_after` (µs), the times of the trades before and after the range, shorten the search. Each
        request costs a second of the REST budget.
        """
        return KrakenHistory(self.native(symbol), first_id, last_id, ts_before, ts_after)

    def newest(self, symbol: str) -> Request:
        """Return the REST request for the newest trades of a canonical symbol.

        The request has neither `since` nor `count`: that is documented as the newest thousand; `count` alone is not.
        """
        return rest.trades_request(symbol, since=None, count=None)

    def newest_id(self, reply: Reply) -> int | None:
        """Return the newest trade id in the reply to `newest`, None if it has no trade. Raises like `History.take`."""
        return newest_of(rest.read_page(reply, None).rows)

    def frame_of(self, rejected: Rejected) -> str:
        return frame_of(rejected)

    def parse(self, frame: bytes, ts_ingest: int) -> list[Parsed]:
        """Parse a frame received at `ts_ingest` (µs): one Trade or Rejected for each item of its `data`.

        Never raises; see `Venue.parse`.
        """
        text = parse_errors.text_of(self.name, frame, ts_ingest)
        if not isinstance(text, str):
            return [text]
        try:
            trades = _read_frame(text)
        except UNREADABLE:
            return self._not_trades(text, ts_ingest)
        source = _SOURCES[trades.type]
        return [self._trade(str(item, "utf-8"), source, ts_ingest) for item in trades.data]

    def _trade(self, raw: str, source: Source, ts_ingest: int) -> Trade | Rejected:
        try:
            trade = _read_trade(raw)
            price, size = number_text(str(trade.price, "utf-8")), number_text(str(trade.qty, "utf-8"))
            ts_event = iso_micros(trade.timestamp)
            if price is not None and size is not None and ts_event is not None and len(raw) <= MAX_RAW:
                return Trade(
                    venue=self.name,
                    symbol=self.canonical(trade.symbol),
                    native_symbol=trade.symbol,
                    trade_id=trade.trade_id,
                    price=price,
                    size=size,
                    side=trade.side,
                    ts_event=ts_event,
                    ts_ingest=ts_ingest,
                    source=source,
                    raw=raw,
                )
        except UNREADABLE:
            pass
        symbol = symbol_in(raw, "symbol", self.canonical)
        return parse_errors.rejected(self.name, parse_errors.explain(raw, self._checks), raw, ts_ingest, symbol)

    def _not_trades(self, text: str, ts_ingest: int) -> list[Parsed]:
        """A control message, another channel, a v1 frame, or a trade frame with a fault."""
        if text.lstrip().startswith("["):
            return stream_v1.parse_array(self.name, text, ts_ingest)
        fields = parse_errors.object_fields(text)
        fault: Fault
        if isinstance(fields, Fault):
            fault = fields
        elif "channel" in fields:
            channel = parse_errors.string(fields["channel"])
            if channel == "trade":
                return self._bad_trade_frame(fields, text, ts_ingest)
            if channel is not None:
                return [Heartbeat()] if channel == "heartbeat" else []
            fault = parse_errors.wrong_type("channel", fields["channel"], "a string")
        elif "event" in fields:
            return stream_v1.parse_event(self.name, self.canonical, fields, text, ts_ingest)
        elif "method" in fields or not fields.keys().isdisjoint(_ERRORS):
            return self._reply(fields)
        else:
            fault = Fault(
                "unknown_frame", f"found {parse_errors.shorten(text)}; expected a channel, a reply or an error"
            )
        return [parse_errors.rejected(self.name, fault, text, ts_ingest)]

    def _bad_trade_frame(self, fields: dict[str, str], text: str, ts_ingest: int) -> list[Parsed]:
        """A trade frame without a usable `type` or `data`: its trades cannot be placed, so each is rejected."""
        if "data" not in fields:
            return [parse_errors.rejected(self.name, parse_errors.missing("data", fields), text, ts_ingest)]
        items = parse_errors.array_items(fields["data"])
        if isinstance(items, Fault):
            fault = parse_errors.wrong_type("data", fields["data"], "an array of trades")
            return [parse_errors.rejected(self.name, fault, text, ts_ingest)]
        if "type" not in fields:
            fault = parse_errors.missing("type", fields)
        elif parse_errors.string(fields["type"]) is None:
            fault = parse_errors.wrong_type("type", fields["type"], "update or snapshot")
        else:
            fault = Fault(
                "unknown_frame", f"found {parse_errors.shorten(fields['type'])} in type; expected update or snapshot"
            )
        return [parse_errors.rejected(self.name, fault, item, ts_ingest) for item in items]

    def _reply(self, fields: dict[str, str]) -> list[Parsed]:
        """Replies to subscribe; `pong` and other methods say nothing to a trade feed."""
        request = request_number(fields.get("req_id"))
        symbol = known_symbol(self.canonical, parse_errors.string(fields.get("symbol")))
        error = next((fields[name] for name in _ERRORS if name in fields), None)
        if error is not None:
            message = parse_errors.string(error) or parse_errors.shorten(error)
            if _is_already(message):
                return [Subscribed(() if symbol is None else (symbol,), request, is_one=True)]
            unlisted = _unlisted(message)
            if unlisted and symbol is None:
                symbol = known_symbol(self.canonical, unlisted[1])
            return [Refused(message, symbol, is_final=unlisted is not None, request=request)]
        if parse_errors.string(fields.get("method")) != "subscribe":
            return []
        if fields.get("success") != "true":
            return [Refused("subscription refused without a reason", symbol, request=request)]
        result = parse_errors.object_fields(fields.get("result", "{}"))
        if not isinstance(result, Fault):
            symbol = known_symbol(self.canonical, parse_errors.string(result.get("symbol"))) or symbol
        return [Subscribed(() if symbol is None else (symbol,), request, is_one=True)]


VENUE: Venue = Kraken()
