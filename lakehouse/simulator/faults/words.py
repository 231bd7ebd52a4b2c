"""The texts with which a simulated venue refuses subscriptions and requests, fails, and announces its shutdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec

from lakehouse.simulator.faults.model import RestReply, SubscriptionRefusal

#: The forms of a refusal that may pass: with the symbol's name, without it, or with nothing but the words (no number
#: of the request, no method). Coinbase's replies have no such fields, so `bare` is `nameless` there.
HOW = ("named", "nameless", "bare")


def _no_notice() -> bytes:
    return b""


@dataclass(frozen=True)
class VenueWords:
    """One simulated venue's texts for refusals, errors and shutdowns."""

    #: Texts of a refused subscription that may pass, without the symbol's name.
    not_now: tuple[str, ...]
    #: Such a text with `{}` for the symbol's name.
    named_not_now: str
    #: HTTP body of a REST reply 429 (too many requests).
    too_many: bytes
    #: HTTP body of 451 (the venue does not serve this place).
    restricted: bytes
    #: REST replies with which the venue reports errors of its own.
    errors: tuple[RestReply, ...]
    #: The REST reply to a call over the rate limit, if the venue does not answer 429.
    limited: RestReply | None = None
    #: HTTP body of a handshake's 429: the venue's own JSON, or a firewall's text.
    too_many_handshakes: bytes = b"error code: 1015"
    #: Builds the frame that announces the venue's shutdown; empty if it sends none.
    shutdown_notice: Callable[[], bytes] = _no_notice

    def refuse_subscription(self, native: str, how: str, random: Random) -> SubscriptionRefusal:
        """Build a refusal, which may pass, of a subscription; `native` is the venue's name of the symbol.

        `how` is one of HOW, or "any" to draw one.
        """
        way = how if how in HOW else random.choice(HOW)
        words = self.named_not_now.format(native) if way == "named" else random.choice(self.not_now)
        return SubscriptionRefusal(words, way == "named", way == "bare")


def json_body(value: object) -> bytes:
    """Encode a value as JSON, for the body of an HTTP reply."""
    return msgspec.json.encode(value)
