"""Binance spot's WebSocket protocol: the raw `@trade` stream, whose trade ids are contiguous per symbol.

Source: "WebSocket Streams for Binance" of the Binance spot API documentation. `aggTrade` has another id space and is
never read. A repeated subscription is harmless: the server keeps a set of streams for each connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

from lakehouse.errors import SettingError
from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.binance import history, names
from lakehouse.exchanges.binance.rejected import frame_of
from lakehouse.exchanges.json_fields import DecimalText, TradeId, epoch_micros
from lakehouse.exchanges.model import Parsed, Refused, Rejected, Shutdown, Subscribed, Trade
from lakehouse.exchanges.parse_errors import MAX_RAW, UNREADABLE, Check, Fault
from lakehouse.exchanges.venue import Venue, VenueById, http_root, known_symbol, request_number, websocket_root

#: Most streams (one for each symbol) of one connection [documentation].
MAX_STREAMS = 1024
#: Most streams named in one message or URL. 437 in one message failed without a word (ccxws issue 161) and a URL ends
#: at 8,004 characters (unicorn-binance-websocket-api issue 19); 200 streams of 30 characters stay below both.
STREAMS_A_MESSAGE = 200
#: Most characters of the stream names in a URL, so that the whole URL stays below 8,004.
MAX_URL_STREAMS = 7_800

_TRADE_STREAM = "@trade"


class _Frame(msgspec.Struct):
    """A wrapped frame of a combined stream; a raw frame leaves `data` unset."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Trade(msgspec.Struct):
    """The trade payload. `M`, `a` and `b` are ignored; `E` is when the event was sent, `T` the trade's time."""

    e: Literal["trade"]
    s: str
    t: TradeId
    p: DecimalText
    q: DecimalText
    T: int
    m: bool


_read_frame = msgspec.json.Decoder(_Frame).decode
_read_trade = msgspec.json.Decoder(_Trade).decode


class Binance(VenueById):
    """Binance spot, as a `Venue` for given canonical `symbols`.

    Binance's names run base and quote together (`BTCUSDT`), so only trades of `symbols` can be read.
    """

    name = "binance"
    #: The server pings every 20 s and cuts after 60 s without a pong [documentation]: 60 s without even a ping is dead.
    silence_seconds = 60.0
    #: An hour before the server closes a connection (24 h [documentation]).
    lifetime_seconds = 23 * 3600.0
    joins_names = True
    #: Its REST history may give milliseconds, the socket microseconds [documentation of both].
    time_micros = 1000
    #: 5 messages a second are allowed, pongs included [documentation]; others were cut at 250 ms and held at 500 ms.
    subscribe_pause_seconds = 0.5
    rest_budget = history.BUDGET
    walk = history.BinanceHistory

    def __init__(self, symbols: Sequence[str] = ()) -> None:
        self._names = names.KnownNames(symbols)
        self._checks: tuple[tuple[str, Check], ...] = (
            ("s", parse_errors.symbol(self.canonical)),
            ("t", parse_errors.trade_id),
            ("p", parse_errors.decimal_string),
            ("q", parse_errors.decimal_string),
            ("T", parse_errors.epoch_time),
            ("m", parse_errors.boolean),
        )

    def for_symbols(self, symbols: Sequence[str]) -> Binance:
        """Return a Binance that reads the trades of these symbols and no others."""
        return Binance(symbols)

    def websocket_url(self, base: str | None, symbols: Sequence[str]) -> str:
        """Return the address of the combined stream, with times in microseconds.

        It names the first 200 symbols, or fewer if the URL would be too long; the messages of `subscribe` name all.
        """
        root = "wss://stream.binance.com:9443" if base is None else f"{websocket_root(base)}/binance"
        streams = [quote(stream, safe="@") for stream in self._streams(symbols)[:STREAMS_A_MESSAGE]]
        while len("/".join(streams)) > MAX_URL_STREAMS:  # letters beyond ASCII take up to twelve characters each
            del streams[-1]
        return f"{root}/stream?streams={'/'.join(streams)}&timeUnit=MICROSECOND"

    def rest_url(self, base: str | None) -> str:
        """Return the address above `/api/v3/…`: the live host's, or the one below `base`, a simulator's root."""
        return "https://api.binance.com" if base is None else f"{http_root(base)}/binance"

    def native(self, symbol: str) -> str:
        """Return Binance's name of a canonical symbol: `BTC/USDT` → `BTCUSDT`."""
        return names.native(symbol)

    def canonical(self, native: str) -> str:
        """Return the canonical symbol: `BTCUSDT` → `BTC/USDT`. Raises ValueError unless one known symbol fits."""
        return self._names.canonical(native)

    def subscribe(self, symbols: Sequence[str], number: int = 1) -> list[bytes]:
        """Return SUBSCRIBE messages of at most 200 streams each, numbered from `number` on.

        Their acknowledgement names no symbol. Raises SettingError for more than 1,024 symbols.
        """
        streams = self._streams(symbols)
        if len(streams) > MAX_STREAMS:
            raise SettingError(
                f"{len(streams)} Binance symbols on one connection",
                f"{MAX_STREAMS} at most",
                "split them over two runs",
            )
        return [
            msgspec.json.encode(
                {"method": "SUBSCRIBE", "params": streams[first : first + STREAMS_A_MESSAGE], "id": place}
            )
            for place, first in enumerate(range(0, len(streams), STREAMS_A_MESSAGE), start=number)
        ]

    def _streams(self, symbols: Sequence[str]) -> list[str]:
        return [self.native(symbol).lower() + _TRADE_STREAM for symbol in symbols]

    def frame_of(self, rejected: Rejected) -> str:
        return frame_of(rejected)

    def parse(self, frame: bytes, ts_ingest: int) -> list[Parsed]:
        """Parse a frame, which has one trade at most, received at `ts_ingest` (µs). Never raises; see `Venue.parse`."""
        text = parse_errors.text_of(self.name, frame, ts_ingest)
        if not isinstance(text, str):
            return [text]
        try:
            data = _read_frame(text).data
            raw = text if data is msgspec.UNSET else str(data, "utf-8")
            trade = _read_trade(raw)
            ts_event = epoch_micros(trade.T)
            if ts_event is not None and len(raw) <= MAX_RAW:
                return [
                    Trade(
                        venue=self.name,
                        symbol=self.canonical(trade.s),
                        native_symbol=trade.s,
                        trade_id=trade.t,
                        price=trade.p,
                        size=trade.q,
                        side="sell" if trade.m else "buy",  # m: the buyer is the maker, so the taker sold
                        ts_event=ts_event,
                        ts_ingest=ts_ingest,
                        source="live",
                        raw=raw,
                    )
                ]
        except UNREADABLE:
            pass
        return self._not_a_trade(text, ts_ingest)

    def _not_a_trade(self, text: str, ts_ingest: int) -> list[Parsed]:
        """A control message, another stream's event, or a trade with a fault."""
        fields = parse_errors.object_fields(text)
        if isinstance(fields, Fault):
            return [parse_errors.rejected(self.name, fields, text, ts_ingest)]
        if "data" not in fields:
            return self._event(fields, text, None, ts_ingest)
        stream = parse_errors.string(fields.get("stream"))
        event = parse_errors.object_fields(fields["data"])
        if not isinstance(event, Fault):
            return self._event(event, fields["data"], stream, ts_ingest)
        if stream is not None and not stream.endswith(_TRADE_STREAM):  # such as !miniTicker@arr, an array
            return []
        return [parse_errors.rejected(self.name, event, text, ts_ingest)]

    def _event(self, fields: dict[str, str], payload: str, stream: str | None, ts_ingest: int) -> list[Parsed]:
        """The meaning of an object: by its event type, else by its stream, else by its form."""
        kind = parse_errors.string(fields.get("e"))
        on_trades = stream is not None and stream.endswith(_TRADE_STREAM)
        fault: Fault
        symbol = None
        if kind == "trade":
            fault = parse_errors.explain(payload, self._checks)
            symbol = known_symbol(self.canonical, parse_errors.string(fields.get("s")))
        elif kind == "serverShutdown":
            return [Shutdown()]
        elif kind is not None and not on_trades:
            return []
        elif kind is not None:
            fault = Fault("unknown_frame", f"found event {parse_errors.shorten(kind)!r} in {stream}; expected trade")
        elif "e" in fields:
            fault = parse_errors.wrong_type("e", fields["e"], "the event type, a string")
        elif on_trades:
            fault = parse_errors.missing("e", fields)
        elif stream is not None or {"s", "b", "B", "a", "A"} <= fields.keys() or "lastUpdateId" in fields:
            return []  # bookTicker and partial depth carry no event type
        else:
            return self._control(fields, payload, ts_ingest)
        return [parse_errors.rejected(self.name, fault, payload, ts_ingest, symbol)]

    def _control(self, fields: dict[str, str], payload: str, ts_ingest: int) -> list[Parsed]:
        """Replies: `{"result":null,"id":1}`, `{"code":2,"msg":"…"}`, `{"error":{"code":2,"msg":"…"},"id":1}`."""
        error = parse_errors.object_fields(fields["error"]) if "error" in fields else fields
        request = request_number(fields.get("id"))
        if not isinstance(error, Fault) and "code" in error:
            message = (
                f"{parse_errors.string(error.get('msg')) or 'no message'} (code {parse_errors.shorten(error['code'])})"
            )
            return [Refused(message, is_whole=True, request=request)]
        if "result" in fields and "error" not in fields:
            # It says that the request could be read. A name that does not exist is acknowledged too: REST knows.
            return [Subscribed(request=request)]
        fault = Fault("unknown_frame", f"found {parse_errors.shorten(payload)}; expected a trade event or a reply")
        return [parse_errors.rejected(self.name, fault, payload, ts_ingest)]


VENUE: Venue = Binance()
