"""The words of a venue: how it refuses, fails and announces its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec

from lakehouse.simulator.faults.model import RestReply, SubscriptionRefusal

#: How a passing refusal is told: with the symbol's name, without it, or without anything but the words (no number of
#: the request, no method). Coinbase's replies have no such fields, so `bare` is `nameless` there.
HOW = ("named", "nameless", "bare")


def _no_notice() -> bytes:
    return b""


@dataclass(frozen=True)
class VenueWords:
    """One venue's words; bodies are those of HTTP replies."""

    #: Refusals of a subscription for now, without the symbol's name.
    not_now: tuple[str, ...]
    #: The refusal with the symbol's name in place of `{}`.
    named_not_now: str
    #: The body of 429.
    too_many: bytes
    #: The body of 451.
    restricted: bytes
    #: The venue's own errors.
    errors: tuple[RestReply, ...]
    #: The reply over a REST limit if that is not 429.
    limited: RestReply | None = None
    #: The body of a handshake's 429: the venue's own JSON, or a firewall's text.
    too_many_handshakes: bytes = b"error code: 1015"
    #: The frame that announces the venue's shutdown; empty if it sends none.
    shutdown_notice: Callable[[], bytes] = _no_notice

    def refuse_subscription(self, native: str, how: str, random: Random) -> SubscriptionRefusal:
        """Refuse a symbol for now; `native` is its name at the venue, `how` one of HOW or "any"."""
        way = how if how in HOW else random.choice(HOW)
        words = self.named_not_now.format(native) if way == "named" else random.choice(self.not_now)
        return SubscriptionRefusal(words, way == "named", way == "bare")


def json_body(value: object) -> bytes:
    """A value as JSON."""
    return msgspec.json.encode(value)
