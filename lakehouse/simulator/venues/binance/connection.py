"""The server's side of Binance spot's WebSocket: combined and raw trade streams (docs/venues.md, "Binance spot")."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from lakehouse.simulator.connection import ClientConnection, decode
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import Frame, SubscriptionRefusal
from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.record import Row, decimal_text
from lakehouse.simulator.times import now_micros
from lakehouse.simulator.transport import Transport

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
INBOUND_PER_SECOND = 5
MOST_STREAMS = 1024
#: Error code of a refusal that may pass. The documentation names only 2 and 3; this one is made up.
NOT_NOW = 1


class BinanceConnection(ClientConnection):
    """One client of the simulated Binance.

    At `/binance/stream?streams=a/b` (`wrapped`) each trade is wrapped with its stream's name, at `/binance/ws/<stream>`
    it is not. `streams` are the streams in the address, separated by `/`.
    """

    venue = "binance"

    def __init__(
        self, exchange: Exchange, transport: Transport, query: Mapping[str, str], streams: str, wrapped: bool
    ) -> None:
        super().__init__(exchange, transport, query)
        self._initial = [stream for stream in streams.split("/") if stream]
        self._is_wrapped = wrapped
        self._is_micro = query.get("timeUnit", "").upper() == "MICROSECOND"
        self._streams: dict[str, None] = {}
        self._by_name = {one.native.lower(): one for one in exchange.instruments("binance")}
        self._inbound: deque[float] = deque()
        self._pings: dict[bytes, float] = {}
        self._next_ping = self.now + exchange.options.timings.ping

    @property
    def variant(self) -> str:
        """Name of this connection's encoding of trades: wrapped or raw, times in µs or ms."""
        return f"{self._is_wrapped}{self._is_micro}"

    def opened(self) -> None:
        """Subscribe a new client to the streams in its address, without a reply, except those that a fault refuses."""
        self._subscribe([stream for stream in self._initial if not self._refusal_now([stream])])

    def received(self, text: str | bytes) -> None:
        """Handle a client's message: SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS.

        Others get an error with code 2 (bad request) or 3 (no JSON). More than five messages a second end the
        connection.
        """
        if not self._allow_inbound():
            return
        try:
            message = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.send({"code": 3, "msg": f"Invalid JSON: {error}"})
            return
        problem = _problem(message)
        if problem:
            self.send({"code": 2, "msg": f"Invalid request: {problem}"})
            return
        method, params, number = message["method"], message.get("params", []), message.get("id")
        result: Any = None
        if method == "LIST_SUBSCRIPTIONS":
            result = list(self._streams)
        elif method == "UNSUBSCRIBE":
            self._unsubscribe(params)
        elif len({*self._streams, *params}) > MOST_STREAMS:
            self.send({"code": 2, "msg": f"Invalid request: more than {MOST_STREAMS} streams"})
            return
        refusal = self._refusal_now(params) if method == "SUBSCRIBE" else None
        if refusal:
            words = {"code": NOT_NOW, "msg": refusal.words}
            self.send(words if refusal.is_bare else {"error": words, "id": number})
            return
        # The acknowledgement goes first: a stream may trade at once.
        self.send({"result": result, "id": number})
        if method == "SUBSCRIBE":
            self._subscribe(params)

    def _refusal_now(self, streams: list[str]) -> SubscriptionRefusal | None:
        """Return the refusal of the first stream refused for now, which refuses the whole request; else None."""
        for stream in streams:
            instrument = self._instrument(stream)
            refusal = self.refusal(instrument.symbol, stream) if instrument else None
            if refusal:
                return refusal
        return None

    def _subscribe(self, streams: list[str]) -> None:
        for stream in streams:
            self._streams[stream] = None
            instrument = self._instrument(stream)
            # A stream that we do not have is acknowledged and stays silent, as on the venue.
            if instrument or self.playback:
                self.announce(instrument.symbol if instrument else "")
                self.join(instrument.symbol if instrument else "")

    def _unsubscribe(self, streams: list[str]) -> None:
        for stream in streams:
            self._streams.pop(stream, None)
            instrument = self._instrument(stream)
            if instrument:
                self.leave(instrument.symbol)

    def _instrument(self, stream: str) -> Instrument | None:
        name, _, kind = stream.partition("@")
        # Names are lower case; an upper-case one is acknowledged and silent.
        return self._by_name.get(name) if kind == "trade" else None

    def _allow_inbound(self) -> bool:
        """Five inbound messages a second, pongs included; more ends the connection."""
        now = time.monotonic()
        self._inbound.append(now)
        while self._inbound[0] < now - 1.0:
            self._inbound.popleft()
        if len(self._inbound) <= INBOUND_PER_SECOND:
            return True
        self.cut(1008, "Too many requests")
        return False

    def ponged(self, payload: bytes) -> None:
        """Take a client's pong as an answer to all open pings, if it has the payload of one of them."""
        if self._allow_inbound() and payload in self._pings:
            self._pings.clear()

    def housekeep(self) -> None:
        """Ping the client; end the connection if no pong comes in time, or when its day is over (`Timings`)."""
        timings = self.exchange.options.timings
        if self.now - self.peer.since > timings.day:
            self.cut(1001, "going away")
            return
        oldest = next(iter(self._pings.values()), self.now)
        if self.now - oldest > timings.pong:
            self.cut(1008, "Pong timeout")
            return
        if self.now >= self._next_ping:
            self._next_ping = self.now + timings.ping
            payload = str(now_micros() // 1000).encode()
            self._pings[payload] = self.now
            self.transport.send_ping(payload)

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:
        """Encode trades of one instrument as frames, one for each trade; `now` (µs) is the event time `E`."""
        native, symbol, unit = instrument.native, instrument.symbol, 1 if self._is_micro else 1000
        stream = f"{native.lower()}@trade"
        sent = max(now, rows[-1].ts_event) // unit
        opening = f'{{"e":"trade","E":{sent},"s":"{native}","t":'
        ending = "}"
        if self._is_wrapped:
            opening, ending = f'{{"stream":"{stream}","data":{opening}', "}}"
        frames = []
        for trade_id, ts_event, price, size, price_decimals, size_decimals, buy in rows:
            p, q = decimal_text(price, price_decimals), decimal_text(size, size_decimals)
            text = (
                f'{opening}{trade_id},"p":"{p}","q":"{q}",'
                f'"T":{ts_event // unit},"m":{"false" if buy else "true"},"M":true{ending}'
            )
            frames.append(Frame(text.encode(), "trade", symbol, trade_id, trade_id))
        return frames


def _problem(message: Any) -> str | None:
    """The fault of a request, in the venue's words; None if it has none."""
    if not isinstance(message, dict):
        return "expected a JSON object"
    method = message.get("method")
    if method is None:
        return "missing field `method` at line 1 column 1"
    if method not in METHODS:
        return f"unknown variant `{method}`, expected one of {', '.join(f'`{known}`' for known in METHODS)}"
    number = message.get("id")
    if number is not None and (
        isinstance(number, bool) or not isinstance(number, (int, str)) or (isinstance(number, int) and number < 0)
    ):
        return "request ID must be an unsigned integer or a string"
    params = message.get("params")
    if method == "LIST_SUBSCRIPTIONS":
        return None
    if not isinstance(params, list) or not params:
        return "params must be a list of stream names"
    if not all(isinstance(stream, str) and re.fullmatch(r"[^\x00-\x20\x7f]+", stream) for stream in params):
        return "stream name must be a string"
    return None
