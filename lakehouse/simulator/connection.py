"""A client's WebSocket connection to the simulator, the part that all venues share: sending, heartbeats, faults."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import Cut, Frame, FrameKind, Peer, SubscriptionRefusal
from lakehouse.simulator.instruments import Instrument
from lakehouse.simulator.market import Market
from lakehouse.simulator.record import Row
from lakehouse.simulator.transport import Transport

#: A client that leaves this many bytes unread is cut, because the venues cut slow readers; it also bounds our memory.
SLOW_READER_BYTES = 32 * 1024 * 1024


class ClientConnection:
    """One client's WebSocket connection, seen from the simulated venue; each venue's protocol is a subclass.

    Runs in the server's one event loop; never blocks. `query` are the parameters of the address that the client
    connected to.
    """

    venue: ClassVar[str]

    def __init__(self, exchange: Exchange, transport: Transport, query: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.transport = transport
        self.query = query
        self.now = time.monotonic()
        self.peer = Peer(self.venue, exchange.next_number(), self.now)
        self.outbox: list[Frame] = []
        #: True after a subscription was accepted; a playback (recorded frames) then begins to send.
        self.subscribed = False
        #: True after either side has ended the connection.
        self.is_over = False
        self.playback = exchange.playbacks.get(self.venue)
        self._next_heartbeat = self.now + exchange.options.timings.heartbeat
        transport.on_pong = self.ponged
        transport.answers_ping = lambda: not exchange.faults.active or exchange.faults.answers_ping(self.peer)

    @property
    def is_open(self) -> bool:
        """True from the handshake until either side closes the connection."""
        return self.transport.is_open

    @property
    def buffered(self) -> int:
        """Bytes that were sent and wait in this process, because the client has not read them yet."""
        return self.transport.buffered

    # The part that differs from venue to venue

    def opened(self) -> None:
        """Do what the venue does when a client has just connected, such as send a greeting. Does nothing by default."""

    def received(self, text: str | bytes) -> None:
        """Handle a message of the client, such as a subscribe request. Every venue overrides this."""
        raise NotImplementedError

    def ponged(self, payload: bytes) -> None:
        """Handle a WebSocket pong of the client, asked for or not. Does nothing unless overridden."""

    def heartbeat(self) -> None:
        """Send the venue's heartbeat; `tick` calls this every `Timings.heartbeat` seconds. Does nothing by default."""

    def housekeep(self) -> None:
        """Do what is due by `self.now` (monotonic seconds), such as pings and timeouts; called 20 times a second."""

    @property
    def variant(self) -> str:
        """Name of the encoding of trades on this connection (such as Binance's unit of times); "" if there is one only.

        Trades are encoded once for all connections of a venue that have the same variant.
        """
        return ""

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:
        """Encode trades of one instrument as the venue's frames; `now` (µs) is the time of sending."""
        raise NotImplementedError

    # The part that all venues share

    def send(
        self,
        message: bytes | dict[str, Any],
        kind: FrameKind = "control",
        symbol: str = "",
        rows: list[Row] | None = None,
    ) -> None:
        """Put one frame after those in the outbox and `flush`. `message` is the text, or an object to send as JSON.

        An active fault may hold it back, change it or end the connection; `kind`, `symbol` and `rows` (the trades in
        the frame) tell the faults which frame it is.
        """
        payload = message if isinstance(message, bytes) else msgspec.json.encode(message)
        first, last = (rows[0].trade_id, rows[-1].trade_id) if rows else (0, 0)
        self.outbox.append(Frame(payload, kind, symbol, first, last))
        self.flush()

    def flush(self) -> None:
        """Send the frames of the outbox in one write, after the active faults have dropped or changed some.

        Ends the connection if a fault says so, or if the client has left more than SLOW_READER_BYTES unread.
        """
        faults = self.exchange.faults
        cut: Cut | None = None
        if faults.active:
            frames, self.outbox = self.outbox, []
            if self.is_over:
                return
            payloads: list[bytes] = []
            for frame in faults.outgoing(self.peer, frames):
                if isinstance(frame, Cut):
                    cut = frame
                    break
                payloads.append(frame.payload)
        elif self.outbox:
            payloads = [frame.payload for frame in self.outbox]
            self.outbox.clear()
        else:
            return
        if payloads:
            self.transport.send_texts(payloads)
        if cut:
            self.cut(cut.code, cut.reason)
        elif self.transport.buffered > SLOW_READER_BYTES:
            self.cut(1006, "slow reader")

    def cut(self, code: int, reason: str) -> None:
        """End the connection with a WebSocket close code; 1006 drops it without a close frame.

        The connection gets no more trades.
        """
        self.exchange.forget(self)
        if code == 1006:
            self.transport.abort()
        else:
            self.transport.close(code, reason)

    def tick(self, now: float) -> None:
        """Send the heartbeat if it is due, then call `housekeep`; `now` in monotonic seconds."""
        self.now = now
        if now >= self._next_heartbeat:
            # From now on rather than from when it was due: after a stall one heartbeat, not a flood.
            self._next_heartbeat = now + self.exchange.options.timings.heartbeat
            self.heartbeat()
        self.housekeep()

    def refusal(self, symbol: str, native: str) -> SubscriptionRefusal | None:
        """Return the refusal, by an active fault, of a subscription to a symbol; None if it is allowed.

        `symbol` is canonical, `native` the venue's name, for the message.
        """
        return self.exchange.faults.refuses(self.peer, symbol, native) if self.exchange.faults.active else None

    def announce(self, symbol: str) -> None:
        """Tell the active faults that a subscription to a canonical symbol begins; call it before its first frame."""
        if self.exchange.faults.active:
            self.exchange.faults.subscribes(self.peer, symbol)

    def join(self, symbol: str) -> Market | None:
        """Subscribe this connection to a canonical symbol and return its market; the first subscription opens it.

        None if a playback of recorded frames replaces the venue's markets. Raises KeyError if the venue does not list
        the symbol.
        """
        self.subscribed = True
        return None if self.playback else self.exchange.join(self, symbol)

    def leave(self, symbol: str) -> None:
        """Unsubscribe this connection from the trades of a canonical symbol."""
        self.exchange.leave(self, symbol)


def decode(text: str | bytes) -> Any:
    """Decode a client's JSON message. Raises msgspec.DecodeError or UnicodeDecodeError if it is not JSON."""
    return msgspec.json.decode(text)
