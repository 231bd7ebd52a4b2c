"""The interface of faults: the exchange asks one `Faults` about handshakes, frames, pongs, trade ids and REST replies.

`NoFaults` changes nothing; a simulator has an `injector.FaultInjector` by default. All methods are called in the
server's one thread and must not block. No method touches the record: it holds the truth, whatever is done to frames and
replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

FrameKind = Literal["trade", "snapshot", "heartbeat", "pong", "control", "replay"]
#: The kinds of frames that carry trades.
DATA: frozenset[FrameKind] = frozenset(("trade", "snapshot", "replay"))


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One WebSocket text frame to a client; if it carries trades, with their canonical symbol and inclusive ids."""

    payload: bytes
    kind: FrameKind = "control"
    symbol: str = ""
    first_id: int = 0
    last_id: int = 0


class Cut(msgspec.Struct, frozen=True, gc=False):
    """An instruction in place of a frame: end the connection with this close code.

    1006 drops the TCP connection without a close frame; other codes send one.
    """

    code: int = 1006
    reason: str = ""


class Peer(msgspec.Struct, frozen=True):
    """Identifies a client's connection: venue, number since the server's start, start time (monotonic seconds)."""

    venue: str
    number: int
    since: float


class RestCall(msgspec.Struct, frozen=True):
    """A REST request to a simulated venue, as the client sent it.

    `path` is without the venue's prefix, `parameters` are the named parts of the path, `query` those after the `?`;
    header names are in lower case.
    """

    venue: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = {}
    parameters: Mapping[str, str] = {}


class RestReply(msgspec.Struct, frozen=True):
    """The HTTP reply to a REST request: body, status and headers to send."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


class View(msgspec.Struct, frozen=True):
    """The part of a market's trades that REST shows, narrowed by faults.

    It leaves out: all but the newest `newest` trades (None: no bound), those of the last `lag_micros` µs, the last
    `lag_ids` trades, and those of the last `late_micros` µs whose id is a multiple of `late_every`.
    """

    lag_micros: int = 0
    lag_ids: int = 0
    newest: int | None = None
    late_micros: int = 0
    late_every: int = 1


class SubscriptionRefusal(msgspec.Struct, frozen=True):
    """A temporary refusal of a subscription, in the venue's `words`.

    `is_named`: the words name the symbol; `is_bare`: the reply has no field besides the words.
    """

    words: str
    is_named: bool = False
    is_bare: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """The HTTP reply that refuses a WebSocket handshake. Status 0 drops the connection without any reply."""

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""


#: The view without any fault: REST shows every trade.
WHOLE = View()


class Faults(Protocol):
    """The interface through which the exchange lets faults act: a hook for each of its actions toward a client."""

    @property
    def active(self) -> bool:
        """False if no fault is active. Then only `tick`, `closed` and `status` are called, so that faults cost nothing.

        If True, `outgoing` is also called on every tick, without frames, so that held-back frames can be released.
        """

    def tick(self, now: float) -> None:
        """Begin and end faults that are due; called before every tick of the exchange. `now` in monotonic seconds."""

    def admits(self, venue: str) -> Refusal | None:
        """Return the refusal of a new connection to a venue; None if the handshake may go on."""

    def refuses(self, peer: Peer, symbol: str, native: str) -> SubscriptionRefusal | None:
        """Return the refusal of a subscription to a canonical symbol; None if it is allowed.

        `native` is the symbol's name at the venue.
        """

    def subscribes(self, peer: Peer, symbol: str) -> None:
        """Take note that a client subscribes to a canonical symbol; called before the symbol's first frame."""

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:
        """Return the frames to send to a client in place of `frames`: some lost, repeated, delayed or changed.

        A Cut among them ends the connection there.
        """

    def closed(self, peer: Peer) -> None:
        """Drop the state of a connection that has ended. Called even if no fault is active, and maybe twice."""

    def answers_ping(self, peer: Peer) -> bool:
        """Return True if a client's WebSocket ping gets its pong."""

    def skipped_ids(self, venue: str, symbol: str) -> int:
        """Return how many trade ids to leave unused before the trades made now: a gap that no repair can fill."""

    def clock_ahead(self, venue: str) -> int:
        """Return the microseconds by which a venue's clock is ahead of ours; negative if it is behind."""

    def view(self, venue: str, symbol: str) -> View:
        """Return the part of a market's trades that REST shows in the call that is being answered."""

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:
        """Return the reply to send to a REST call: `reply`, or a refusal or error in its place."""

    def rest_delay(self, call: RestCall) -> float:
        """Return the seconds to wait before the reply to a REST call is sent."""

    def status(self) -> dict[str, Any]:
        """Return `active`, the number of active faults, and `done`: kind → how often, for the kinds that struck."""


class NoFaults:
    """A `Faults` without any fault: every frame and reply passes unchanged."""

    active = False

    def tick(self, now: float) -> None:
        """Do nothing: no fault begins or ends."""

    def admits(self, venue: str) -> Refusal | None:  # noqa: ARG002
        """Return None: admit every connection."""
        return None

    def refuses(self, peer: Peer, symbol: str, native: str) -> SubscriptionRefusal | None:  # noqa: ARG002
        """Return None: allow every subscription."""
        return None

    def subscribes(self, peer: Peer, symbol: str) -> None:
        """Do nothing: no fault is about subscriptions."""

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:  # noqa: ARG002
        """Return all frames, unchanged."""
        return frames

    def closed(self, peer: Peer) -> None:
        """Do nothing: there is no state to drop."""

    def answers_ping(self, peer: Peer) -> bool:  # noqa: ARG002
        """Return True: every ping gets its pong."""
        return True

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        """Return 0: no trade ids are left unused."""
        return 0

    def clock_ahead(self, venue: str) -> int:  # noqa: ARG002
        """Return 0: the venue's clock is right."""
        return 0

    def view(self, venue: str, symbol: str) -> View:  # noqa: ARG002
        """Return a view of the whole market."""
        return WHOLE

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:  # noqa: ARG002
        """Return the reply, unchanged."""
        return reply

    def rest_delay(self, call: RestCall) -> float:  # noqa: ARG002
        """Return 0.0: send at once."""
        return 0.0

    def status(self) -> dict[str, Any]:
        """Return the status for `/admin/status`: no active fault, none that has struck."""
        return {"active": 0, "done": {}}
