"""The interface of faults: the exchange asks one `Faults` about handshakes, frames, pongs, trade ids and REST replies.

`NoFaults` changes nothing; `injector.FaultInjector` is the one that every simulator has. All methods are called in the
server's one thread and must not block. No method touches the record: it holds the truth, whatever is done to frames
and replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

FrameKind = Literal["trade", "snapshot", "heartbeat", "pong", "control", "replay"]
#: The frames that carry trades.
DATA: frozenset[FrameKind] = frozenset(("trade", "snapshot", "replay"))


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One WebSocket text frame. A frame with trades names their canonical symbol and inclusive id range."""

    payload: bytes
    kind: FrameKind = "control"
    symbol: str = ""
    first_id: int = 0
    last_id: int = 0


class Cut(msgspec.Struct, frozen=True, gc=False):
    """End the connection here. 1006 drops the TCP connection without a close frame; other codes close properly."""

    code: int = 1006
    reason: str = ""


class Peer(msgspec.Struct, frozen=True):
    """A client's connection: which venue, its number since the server's start, when it began (monotonic seconds)."""

    venue: str
    number: int
    since: float


class RestCall(msgspec.Struct, frozen=True):
    """A REST request as the client sent it.

    `path` is without the venue's prefix, `parameters` are the named parts of it, header names are in small letters.
    """

    venue: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = {}
    parameters: Mapping[str, str] = {}


class RestReply(msgspec.Struct, frozen=True):
    """A REST reply as it will be sent."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


class View(msgspec.Struct, frozen=True):
    """The part of a market that REST shows: at most `newest` trades (None: no bound), without the latest.

    It shows nothing of the last `lag_micros`, none of the last `lag_ids` trades, and none of the trades of the last
    `late_micros` whose id is a multiple of `late_every`.
    """

    lag_micros: int = 0
    lag_ids: int = 0
    newest: int | None = None
    late_micros: int = 0
    late_every: int = 1


class SubscriptionRefusal(msgspec.Struct, frozen=True):
    """How a subscription is refused for now. `is_named`: the words name the symbol; `is_bare`: no other field."""

    words: str
    is_named: bool = False
    is_bare: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """How a handshake is refused: with an HTTP status, headers and a body. Status 0 drops it without any reply."""

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""


WHOLE = View()


class Faults(Protocol):
    """The questions that the exchange asks before it trades, sends, answers or accepts."""

    @property
    def active(self) -> bool:
        """False if no fault is active. Then only `tick`, `closed` and `status` are called, so that faults cost nothing.

        If True, `outgoing` is also called on every tick, without frames, so that held-back frames can be released.
        """

    def tick(self, now: float) -> None:
        """Called before every tick of the exchange; `now` in monotonic seconds."""

    def admits(self, venue: str) -> Refusal | None:
        """Return the refusal of a new connection; None if it may be made."""

    def refuses(self, peer: Peer, symbol: str, native: str) -> SubscriptionRefusal | None:
        """Return the refusal of a subscription to a canonical symbol; None if it is allowed.

        `native` is the symbol's name at the venue.
        """

    def subscribes(self, peer: Peer, symbol: str) -> None:
        """Called if a client subscribes to a canonical symbol, before its first frame."""

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:
        """Return the frames to send in place of these: fewer, more, in another order, held back, or with a cut."""

    def closed(self, peer: Peer) -> None:
        """Called if a connection has ended, even if no fault is active, and maybe twice."""

    def answers_ping(self, peer: Peer) -> bool:
        """Return True if a client's protocol ping gets its pong."""

    def skipped_ids(self, venue: str, symbol: str) -> int:
        """Return how many trade ids to leave unused before the trades made now: a gap that no repair can fill."""

    def clock_ahead(self, venue: str) -> int:
        """Return the microseconds by which a venue's clock is ahead of ours; negative if it is behind."""

    def view(self, venue: str, symbol: str) -> View:
        """Return the part of a market that REST shows in the call that is being answered."""

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:
        """Return the reply to send in place of `reply`."""

    def rest_delay(self, call: RestCall) -> float:
        """Return the seconds to wait before the reply is sent."""

    def status(self) -> dict[str, Any]:
        """Return `active`, the number of active faults, and `done`: kind → how often it has struck."""


class NoFaults:
    """A `Faults` that changes nothing."""

    active = False

    def tick(self, now: float) -> None:
        """Do nothing."""

    def admits(self, venue: str) -> Refusal | None:  # noqa: ARG002
        """Return None: admit every connection."""
        return None

    def refuses(self, peer: Peer, symbol: str, native: str) -> SubscriptionRefusal | None:  # noqa: ARG002
        """Return None: allow every subscription."""
        return None

    def subscribes(self, peer: Peer, symbol: str) -> None:
        """Do nothing."""

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:  # noqa: ARG002
        """Return all frames, unchanged."""
        return frames

    def closed(self, peer: Peer) -> None:
        """Do nothing: there is no state to drop."""

    def answers_ping(self, peer: Peer) -> bool:  # noqa: ARG002
        """Return True: every ping gets its pong."""
        return True

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        """Return 0: leave no ids out."""
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
        """Return the figures of no fault: none active, none done."""
        return {"active": 0, "done": {}}
