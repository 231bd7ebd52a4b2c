"""A client's connection, the part that all venues share: sending through the faults, pings, limits."""

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
    """Base class of the venues' connections. Runs in the server's one event loop; never blocks."""

    venue: ClassVar[str]

    def __init__(self, exchange: Exchange, transport: Transport, query: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.transport = transport
        self.query = query
        self.now = time.monotonic()
        self.peer = Peer(self.venue, exchange.next_number(), self.now)
        self.outbox: list[Frame] = []
        #: True after a subscription was accepted; a playback may begin.
        self.subscribed = False
        #: True after either side has ended the connection.
        self.is_over = False
        self.playback = exchange.playbacks.get(self.venue)
        self._next_heartbeat = self.now + exchange.options.timings.heartbeat
        transport.on_pong = self.ponged
        transport.answers_ping = lambda: not exchange.faults.active or exchange.faults.answers_ping(self.peer)

    @property
    def is_open(self) -> bool:
        """True from the handshake until either side closes."""
        return self.transport.is_open

    @property
    def buffered(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.transport.buffered

    # The part that differs from venue to venue

    def opened(self) -> None:
        """The client has just connected."""

    def received(self, text: str | bytes) -> None:
        """The client sent a message."""
        raise NotImplementedError

    def ponged(self, payload: bytes) -> None:
        """Called if the client answered a protocol ping, or sent a pong unasked. Does nothing unless overridden."""

    def heartbeat(self) -> None:
        """`Timings.heartbeat` seconds have passed since the last one."""

    def housekeep(self) -> None:
        """About twenty times a second: look at the clocks in `self.now` (monotonic seconds)."""

    @property
    def variant(self) -> str:
        """Connections of a venue with the same variant get the same trade frames."""
        return ""

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:
        """The frames that carry these trades; `now` in µs."""
        raise NotImplementedError

    # The part that all venues share

    def send(
        self,
        message: bytes | dict[str, Any],
        kind: FrameKind = "control",
        symbol: str = "",
        rows: list[Row] | None = None,
    ) -> None:
        """Send one frame now, after those that wait."""
        payload = message if isinstance(message, bytes) else msgspec.json.encode(message)
        first, last = (rows[0].trade_id, rows[-1].trade_id) if rows else (0, 0)
        self.outbox.append(Frame(payload, kind, symbol, first, last))
        self.flush()

    def flush(self) -> None:
        """Pass the waiting frames through the faults and send them in one write."""
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
        """End the connection; 1006 without a close frame. No more trades go to it from here on."""
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
        """Return the refusal of a subscription to a canonical symbol; None if it is allowed."""
        return self.exchange.faults.refuses(self.peer, symbol, native) if self.exchange.faults.active else None

    def announce(self, symbol: str) -> None:
        """Note that a subscription to a canonical symbol begins; call it before the first frame."""
        if self.exchange.faults.active:
            self.exchange.faults.subscribes(self.peer, symbol)

    def join(self, symbol: str) -> Market | None:
        """Begin to receive the trades of a canonical symbol; opens its market. None if a playback replaces it."""
        self.subscribed = True
        return None if self.playback else self.exchange.join(self, symbol)

    def leave(self, symbol: str) -> None:
        """Stop receiving the trades of a canonical symbol."""
        self.exchange.leave(self, symbol)


def decode(text: str | bytes) -> Any:
    """The JSON value of a message. Raises msgspec.DecodeError if it is none."""
    return msgspec.json.decode(text)
