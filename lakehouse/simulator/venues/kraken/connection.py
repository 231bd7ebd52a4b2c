"""The server's side of Kraken WebSocket v2 (docs/venues.md, "Kraken"). Prices and sizes are JSON numbers."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lakehouse.simulator.connection import ClientConnection, decode
from lakehouse.simulator.faults.model import Frame, FrameKind
from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.record import Row, decimal_text
from lakehouse.simulator.times import iso_micros, now_micros

#: Number of latest trades in a snapshot.
SNAPSHOT_TRADES = 50
#: Most trades in one frame.
TRADES_PER_FRAME = 250


class KrakenConnection(ClientConnection):
    """One client of the simulated Kraken, at `/kraken/v2`.

    Sends a status message on connect, then heartbeats, and one reply for each symbol of a subscription.
    """

    venue = "kraken"

    def opened(self) -> None:
        """Send the status message to a new client, with a connection id above int64; nothing if a file is replayed."""
        if self.playback:
            return
        connection_id = random.randrange(2**63, 2**64)
        data = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": connection_id}
        self.send({"channel": "status", "type": "update", "data": [data]})

    def heartbeat(self) -> None:
        """Send a heartbeat; in the form of protocol v1 if a v1 file is replayed."""
        self.send(b'{"event":"heartbeat"}' if self._replays_v1() else b'{"channel":"heartbeat"}', "heartbeat")

    def received(self, text: str | bytes) -> None:
        """Handle a client's message: subscribe, unsubscribe or ping; v1's subscribe only if a v1 file is replayed.

        Any other message gets an error as reply.
        """
        time_in = now_micros()
        try:
            message = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.send({"error": "Malformed request", "success": False})
            return
        if not isinstance(message, dict):
            self.send({"error": "Malformed request", "success": False})
        elif message.get("method") == "ping":
            self._reply({"method": "pong"}, message, time_in, "pong")
        elif message.get("method") in ("subscribe", "unsubscribe"):
            self._subscription(message, time_in)
        elif message.get("event") == "subscribe" and self._replays_v1():
            self.join("")  # the file has the replies
        else:
            self._reply(
                {"error": "Unsupported method", "method": str(message.get("method")), "success": False},
                message,
                time_in,
            )

    def _replays_v1(self) -> bool:
        """True if a recorded file is of the first protocol: no ids, other heartbeats."""
        recordings = self.playback.recordings if self.playback else []
        return any(not urlsplit(one.url).path.rstrip("/").endswith("/v2") for one in recordings)

    def _subscription(self, message: dict[str, Any], time_in: int) -> None:
        method = message["method"]
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        symbols = params.get("symbol")
        if params.get("channel") != "trade" or not isinstance(symbols, list) or not symbols:
            error = "Channel not supported" if symbols else "Symbol(s) not found"
            self._reply({"error": error, "method": method, "success": False}, message, time_in)
            return
        with_snapshot = params.get("snapshot", True) is True
        for symbol in symbols:
            instrument = self.exchange.instrument("kraken", symbol) if isinstance(symbol, str) else None
            if instrument is None and not self.playback:
                error = f"Currency pair not supported {symbol}"
                self._reply({"error": error, "method": method, "success": False, "symbol": symbol}, message, time_in)
                continue
            if method == "subscribe" and self._is_refused(symbol, message, time_in):
                continue
            result = {"channel": "trade", "symbol": symbol}
            if method == "subscribe":
                self.announce(symbol)
                result["snapshot"] = with_snapshot
            self._reply({"method": method, "result": result, "success": True}, message, time_in)
            if method == "unsubscribe":
                self.leave(symbol)
            else:
                self._join(symbol, instrument, with_snapshot)

    def _is_refused(self, symbol: str, message: dict[str, Any], time_in: int) -> bool:
        """Reply to a subscription that is refused, for now or because it exists; True if it is refused."""
        reply: dict[str, Any] = {"method": "subscribe", "success": False}
        if self.exchange.is_heard(self, symbol):
            self._reply({"error": "Already subscribed", **reply, "symbol": symbol}, message, time_in)
            return True
        refusal = self.refusal(symbol, symbol)
        if refusal is None:
            return False
        if refusal.is_bare:
            self.send({"Error": refusal.words})
        else:
            named = {"symbol": symbol} if refusal.is_named else {}
            self._reply({"error": refusal.words, **reply, **named}, message, time_in)
        return True

    def _join(self, symbol: str, instrument: Instrument | None, with_snapshot: bool) -> None:
        market = self.join(symbol)
        if market is None or instrument is None or not with_snapshot:
            return
        tape = market.tape
        rows = tape.rows(max(0, tape.count - SNAPSHOT_TRADES), SNAPSHOT_TRADES) if tape else []
        self.send(_message("snapshot", instrument, rows), "snapshot", symbol, rows)

    def _reply(self, reply: dict[str, Any], request: dict[str, Any], time_in: int, kind: FrameKind = "control") -> None:
        reply = {**reply, "time_in": iso_micros(time_in), "time_out": iso_micros(now_micros())}
        if "req_id" in request:
            reply["req_id"] = request["req_id"]
        self.send(reply, kind)

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:  # noqa: ARG002
        """Encode trades of one instrument as v2 frames of up to TRADES_PER_FRAME trades each; `now` is not used."""
        frames = []
        for start in range(0, len(rows), TRADES_PER_FRAME):
            part = rows[start : start + TRADES_PER_FRAME]
            frames.append(
                Frame(
                    _message("update", instrument, part),
                    "trade",
                    instrument.symbol,
                    part[0].trade_id,
                    part[-1].trade_id,
                )
            )
        return frames


def _message(kind: str, instrument: Instrument, rows: list[Row]) -> bytes:
    opening = f'{{"symbol":"{instrument.native}","side":"'
    trades = [
        f'{opening}{"buy" if buy else "sell"}","price":{decimal_text(price, price_decimals)},'
        f'"qty":{decimal_text(size, size_decimals)},"ord_type":"{"limit" if trade_id % 3 else "market"}",'
        f'"trade_id":{trade_id},"timestamp":"{iso_micros(time)}"}}'
        for trade_id, time, price, size, price_decimals, size_decimals, buy in rows
    ]
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(trades)}]}}'.encode()
