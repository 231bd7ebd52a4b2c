"""One client's connection, as far as it is the same on all venues: sending through the faults, pings, limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from lakehouse.simulator.faults.model import Cut, Frame, FrameKind, NotNow, Peer
from lakehouse.simulator.instruments import Listing
from lakehouse.simulator.record import Row
from lakehouse.simulator.transport import Wire

if TYPE_CHECKING:
    from lakehouse.simulator.exchange import Hub
    from lakehouse.simulator.market import Market

#: A client that leaves so many bytes unread is cut, as the venues cut slow readers; it also bounds our memory.
SLOW_READER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Timings:
    """Seconds of the protocols' clocks; the defaults are the venues' own (docs/venues.md). Tests shorten them."""

    ping: float = 20.0
    pong: float = 60.0
    subscribe: float = 5.0
    heartbeat: float = 1.0
    #: Binance ends every connection after so long.
    day: float = 24 * 3600.0


class Session:
    """Base of the three venues' sessions. Runs in the server's one event loop; never blocks."""

    venue: ClassVar[str]

    def __init__(self, hub: Hub, wire: Wire, query: Mapping[str, str]) -> None:
        self.hub = hub
        self.wire = wire
        self.query = query
        self.now = time.monotonic()
        self.peer = Peer(self.venue, hub.next_number(), self.now)
        self.outbox: list[Frame] = []
        #: A subscription was accepted; a replay may begin.
        self.subscribed = False
        #: The connection has ended, or we have ended it.
        self.is_over = False
        self.replay = hub.replays.get(self.venue)
        self._next_heartbeat = self.now + hub.options.timings.heartbeat
        wire.on_pong = self.ponged
        wire.answers_ping = lambda: not hub.faults.active or hub.faults.answers_ping(self.peer)

    # What a venue does differently

    def opened(self) -> None:
        """The client has just connected."""

    def received(self, text: str | bytes) -> None:
        """The client sent a message."""
        raise NotImplementedError

    def ponged(self, payload: bytes) -> None:
        """The client answered a protocol ping, or sent a pong unasked."""

    def heartbeat(self) -> None:
        """`Timings.heartbeat` seconds have passed since the last one."""

    def housekeep(self) -> None:
        """About twenty times a second: look at the clocks in `self.now` (monotonic seconds)."""

    @property
    def variant(self) -> str:
        """Sessions of a venue with the same variant get the same trade frames."""
        return ""

    def trade_frames(self, listing: Listing, rows: list[Row], now: int) -> list[Frame]:
        """The frames that carry these trades; `now` in µs."""
        raise NotImplementedError

    # What is common

    def send(
        self,
        message: bytes | dict[str, Any],
        kind: FrameKind = "control",
        symbol: str = "",
        rows: list[Row] | None = None,
    ) -> None:
        """Send one frame now, after what is waiting."""
        payload = message if isinstance(message, bytes) else msgspec.json.encode(message)
        first, last = (rows[0].trade_id, rows[-1].trade_id) if rows else (0, 0)
        self.outbox.append(Frame(payload, kind, symbol, first, last))
        self.flush()

    def flush(self) -> None:
        """Pass what is waiting through the faults and send it in one write."""
        faults = self.hub.faults
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
            self.wire.send_texts(payloads)
        if cut:
            self.cut(cut.code, cut.reason)
        elif self.wire.buffered > SLOW_READER_BYTES:
            self.cut(1006, "slow reader")

    def cut(self, code: int, reason: str) -> None:
        """End the connection; 1006 without a close frame. No more trades go to it from here on."""
        self.hub.forget(self)
        if code == 1006:
            self.wire.abort()
        else:
            self.wire.close(code, reason)

    def tick(self, now: float) -> None:
        """Clocks of this connection; `now` in monotonic seconds."""
        self.now = now
        if now >= self._next_heartbeat:
            # From now on rather than from when it was due: after a stall one heartbeat, not a flood.
            self._next_heartbeat = now + self.hub.options.timings.heartbeat
            self.heartbeat()
        self.housekeep()

    def refusal(self, symbol: str, native: str) -> NotNow | None:
        """How a subscription to a canonical symbol is refused for now; None if it is not."""
        return self.hub.faults.refuses(self.peer, symbol, native) if self.hub.faults.active else None

    def announce(self, symbol: str) -> None:
        """A subscription to a canonical symbol begins; to be called before its first frame."""
        if self.hub.faults.active:
            self.hub.faults.subscribes(self.peer, symbol)

    def join(self, symbol: str) -> Market | None:
        """Begin to receive the trades of a canonical symbol; opens its market. None where a replay stands in for it."""
        self.subscribed = True
        return None if self.replay else self.hub.join(self, symbol)

    def leave(self, symbol: str) -> None:
        """Receive the trades of a canonical symbol no more."""
        self.hub.leave(self, symbol)


def decode(text: str | bytes) -> Any:
    """The JSON value of a message. Raises msgspec.DecodeError where it is none."""
    return msgspec.json.decode(text)
