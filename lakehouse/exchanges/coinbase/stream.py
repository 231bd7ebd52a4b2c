"""Coinbase Exchange's WebSocket protocol: the `matches` (trades) and `heartbeat` channels, no key needed.

Source: "Exchange WebSocket Channels" of the Coinbase developer documentation. `side` is the **maker's** and is flipped:
on 107 of 107 recorded trades it is the opposite of the taker's side in `ticker`. `last_match` is the newest trade
before the subscription, maybe minutes old. `sequence` jumps when only matches are subscribed and proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.coinbase import history, names, reasons
from lakehouse.exchanges.json_fields import DecimalText, TradeId, iso_micros
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Side, Source, Subscribed, Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check, Fault
from lakehouse.exchanges.venue import Venue, VenueById, http_root, known_symbol, symbol_in, websocket_root

_TAKER: dict[str, Side] = {"buy": "sell", "sell": "buy"}
_SOURCES: dict[str, Source] = {"match": "live", "last_match": "snapshot"}


class _Match(msgspec.Struct):
    """A trade. `side` is the maker's."""

    type: Literal["match", "last_match"]
    product_id: str
    trade_id: TradeId
    price: DecimalText
    size: DecimalText
    side: Literal["buy", "sell"]
    time: str


class _Heartbeat(msgspec.Struct):
    """A product's sign of life, once a second. `last_trade_id` 0 means that it is not known."""

    product_id: str
    last_trade_id: TradeId = 0


class _Channel(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Subscriptions(msgspec.Struct):
    """Everything that is subscribed now."""

    channels: list[_Channel]


_read_match = msgspec.json.Decoder(_Match).decode
_read_heartbeat = msgspec.json.Decoder(_Heartbeat).decode
_read_subscriptions = msgspec.json.Decoder(_Subscriptions).decode


class Coinbase(VenueById):
    """Coinbase Exchange, as a `Venue`: its addresses, names, messages and parser. No state."""

    name = "coinbase"
    #: A heartbeat a second for each product; five in a row cannot be chance.
    silence_seconds = 5.0
    #: Its REST history may give milliseconds, the socket microseconds.
    time_micros = 1000
    rest_budget = history.BUDGET
    walk = history.CoinbaseHistory

    def __init__(self) -> None:
        self._checks: tuple[tuple[str, Check], ...] = (
            ("product_id", parse_errors.symbol(self.canonical)),
            ("trade_id", parse_errors.trade_id),
            ("price", parse_errors.decimal_string),
            ("size", parse_errors.decimal_string),
            ("side", parse_errors.side),
            ("time", parse_errors.iso_time),
        )

    def for_symbols(self, symbols: Sequence[str]) -> Coinbase:  # noqa: ARG002 - names are not ambiguous here
        """Return this object: Coinbase's names are not ambiguous, so it reads the trades of any symbol."""
        return self

    def websocket_url(self, base: str | None, symbols: Sequence[str]) -> str:  # noqa: ARG002 - not part of the address
        """Return the address of the market data feed. It names no symbols: messages subscribe them."""
        return "wss://ws-feed.exchange.coinbase.com" if base is None else f"{websocket_root(base)}/coinbase"

    def rest_url(self, base: str | None) -> str:
        """Return the address above `/products/…`: the live host's, or the one below `base`, a simulator's root."""
        return "https://api.exchange.coinbase.com" if base is None else f"{http_root(base)}/coinbase"

    def native(self, symbol: str) -> str:
        """Return Coinbase's name of a canonical symbol: `BTC/USDT` → `BTC-USDT`."""
        return names.native(symbol)

    def canonical(self, native: str) -> str:
        """Return the canonical symbol: `BTC-USDT` → `BTC/USDT`. Raises ValueError for any other spelling."""
        return names.canonical(native)

    def subscribe(self, symbols: Sequence[str], number: int = 1) -> list[bytes]:  # noqa: ARG002 - replies name none
        """Return one subscribe message for all symbols; `number` is not used, as replies name no request.

        Coinbase closes a connection that has not subscribed within 5 s.
        """
        products = [self.native(symbol) for symbol in symbols]
        message = {"type": "subscribe", "product_ids": products, "channels": ["matches", "heartbeat"]}
        return [msgspec.json.encode(message)]

    def parse(self, frame: bytes, ts_ingest: int) -> list[Parsed]:
        """Parse a frame, which has one trade at most, received at `ts_ingest` (µs). Never raises; see `Venue.parse`."""
        text = parse_errors.text_of(self.name, frame, ts_ingest)
        if not isinstance(text, str):
            return [text]
        try:
            match = _read_match(text)
            ts_event = iso_micros(match.time)
            if ts_event is not None and len(text) <= MAX_RAW:
                return [
                    Trade(
                        venue=self.name,
                        symbol=self.canonical(match.product_id),
                        native_symbol=match.product_id,
                        trade_id=match.trade_id,
                        price=match.price,
                        size=match.size,
                        side=_TAKER[match.side],
                        ts_event=ts_event,
                        ts_ingest=ts_ingest,
                        source=_SOURCES[match.type],
                        raw=text,
                    )
                ]
        except UNREADABLE:
            pass
        return self._not_a_trade(text, ts_ingest)

    def _not_a_trade(self, text: str, ts_ingest: int) -> list[Parsed]:
        """A control message, another channel's message, or a trade with a fault."""
        fields = parse_errors.object_fields(text)
        fault: Fault
        symbol = None
        if isinstance(fields, Fault):
            fault = fields
        elif "type" not in fields:
            fault = parse_errors.missing("type", fields)
        else:
            match parse_errors.string(fields["type"]):
                case "match" | "last_match":
                    fault = parse_errors.explain(text, self._checks)
                    symbol = symbol_in(text, "product_id", self.canonical)
                case "heartbeat" | "subscriptions" as kind:
                    try:
                        return self._heartbeat(text) if kind == "heartbeat" else self._subscribed(text)
                    except UNREADABLE as error:
                        fault = Fault("wrong_type", f"found an unreadable {kind} ({parse_errors.shorten(str(error))})")
                case "error":
                    return self._error(fields)
                case None:
                    fault = parse_errors.wrong_type("type", fields["type"], "a string")
                case _:  # "clients are expected to ignore messages they do not support" [documentation]
                    return []
        return [parse_errors.rejected(self.name, fault, text, ts_ingest, symbol)]

    def _heartbeat(self, text: str) -> list[Parsed]:
        heartbeat = _read_heartbeat(text)
        return [Heartbeat(symbol=self.canonical(heartbeat.product_id), last_trade_id=heartbeat.last_trade_id or None)]

    def _subscribed(self, text: str) -> list[Parsed]:
        channels = _read_subscriptions(text).channels
        products = [product for channel in channels if channel.name == "matches" for product in channel.product_ids]
        return [Subscribed(symbols=tuple(self.canonical(product) for product in products))] if products else []

    def _error(self, fields: dict[str, str]) -> list[Parsed]:
        """`{"type":"error","message":"Failed to subscribe","reason":"X-Y is delisted"}`: all of the request failed.

        One Refused for each product that the reason is about; one without a symbol if it names none.
        """
        parts = [parse_errors.string(fields.get(name)) for name in ("message", "reason")]
        message, reason = ": ".join(part for part in parts if part) or "no message", parts[1] or ""
        products, is_final = reasons.about(reason)
        named = dict.fromkeys(known_symbol(self.canonical, product) for product in products)
        symbols = [symbol for symbol in named if symbol is not None]
        return [Refused(message, symbol, is_final, is_whole=True) for symbol in symbols or (None,)]


VENUE: Venue = Coinbase()
