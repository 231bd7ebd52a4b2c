"""Where faults are put in: every outgoing frame, pong, trade id and REST reply passes through one `Faults` object.

`NoFaults` is the exchange at its best. A fault list is another implementation of the same small interface, handed to
`SimulatorOptions(faults=…)`; no other module has to change. All methods are called in the server's one thread and must
not block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

FrameKind = Literal["trade", "snapshot", "heartbeat", "control", "replay"]


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
    """A REST request as the client sent it; `path` without the venue's prefix."""

    venue: str
    path: str
    query: Mapping[str, str]


class RestReply(msgspec.Struct, frozen=True):
    """A REST reply as it will be sent."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


class Faults(Protocol):
    """What may go wrong, and where."""

    @property
    def active(self) -> bool:
        """True: `outgoing` is also called, with no frames, on every tick, so that held-back frames can be released."""

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:
        """The frames to send in place of these: fewer, more, in another order, held back, or with a cut."""

    def answers_ping(self, peer: Peer) -> bool:
        """Whether a client's protocol ping gets its pong."""

    def skipped_ids(self, venue: str, symbol: str) -> int:
        """How many trade ids to leave unused before the next trades: a hole that no repair can fill."""

    def newest_in_rest(self, venue: str, symbol: str, newest: int) -> int:
        """The newest trade id that REST shows; below `newest` while REST lags behind the socket."""

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:
        """The reply to send in place of this one."""


class NoFaults:
    """Nothing goes wrong."""

    active = False

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:  # noqa: ARG002
        """All of them, as they are."""
        return frames

    def answers_ping(self, peer: Peer) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        """None."""
        return 0

    def newest_in_rest(self, venue: str, symbol: str, newest: int) -> int:  # noqa: ARG002
        """No lag."""
        return newest

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:  # noqa: ARG002
        """As it is."""
        return reply
