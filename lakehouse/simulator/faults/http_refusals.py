"""Build the HTTP replies with which venues refuse REST calls and WebSocket handshakes: too many calls, a ban, a blocked
address, a restricted location, an error of their own.

The texts of the limits and of Binance's 451 are the venues' (their documentation, reports of users); the pages of 403
and 503 and `error code: 1015` are those of the firewalls before them.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import msgspec

from lakehouse.simulator.faults.model import Refusal, RestReply
from lakehouse.simulator.faults.words import VenueWords

#: Statuses of a refused handshake that pass within the time in Retry-After, and the forms of that header.
PASSING = ("418", "429", "503")
FORMS = ("seconds", "decimals", "date")
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_FORBIDDEN = (
    b"<!DOCTYPE html><html><head><title>403 Forbidden</title><style>body { color: #404040 }</style></head>"
    b"<body><h1>Sorry, you have been blocked</h1></body></html>"
)
_UNAVAILABLE = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body></body></html>"
#: The text of a venue that does not serve the client's place (451).
RESTRICTED = "Service unavailable from a restricted location."


def too_many(words: VenueWords, seconds: float) -> RestReply:
    """Build the REST reply 429 (too many requests), with `seconds` in Retry-After, rounded up."""
    return RestReply(words.too_many, 429, _retry_after(seconds))


def banned(seconds: float) -> RestReply:
    """Build Binance's REST reply 418 (banned) for so many seconds, with the time in its text and in Retry-After."""
    until = time.time_ns() // 1_000_000 + round(seconds * 1000)
    message = (
        f"Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live updates."
    )
    return RestReply(msgspec.json.encode({"code": -1003, "msg": message}), 418, _retry_after(seconds))


def failed(words: VenueWords, random: Random) -> RestReply:
    """Build the REST reply of a venue that fails, drawn evenly: 502 with a page of HTML, or the venue's own error."""
    if random.random() < 0.5:
        return RestReply(_BAD_GATEWAY, 502, {"content-type": "text/html"})
    return random.choice(words.errors)


def unavailable() -> RestReply:
    """Build the REST reply 503 of a venue that is down."""
    return RestReply(b"Service Unavailable", 503, {"content-type": "text/plain"})


def handshake(words: VenueWords, status: int, seconds: float, form: str) -> Refusal:
    """Build the refusal of a handshake with `status` 403, 418, 429, 451 or 503.

    The body is from `words` for 429 and 451, a firewall's page for 403 and 503, Binance's ban for 418. Retry-After has
    the `seconds` until the next attempt, in the given `form`: one of FORMS, or "none" for no header.
    """
    headers = {**_named(seconds, form), "content-type": "text/html"}
    if status == 403:
        return Refusal(status, headers, _FORBIDDEN)
    if status == 503:
        return Refusal(status, headers, _UNAVAILABLE)
    headers["content-type"] = "application/json"
    if status == 418:
        return Refusal(status, headers, banned(seconds).body)
    if status == 451:
        return Refusal(status, headers, words.restricted)
    if not words.too_many_handshakes.startswith(b"{"):
        headers["content-type"] = "text/plain"
    return Refusal(status, headers, words.too_many_handshakes)


def _named(seconds: float, form: str) -> dict[str, str]:
    """The header Retry-After; never earlier than the time itself."""
    if form == "none":
        return {}
    if form == "decimals":
        return {"retry-after": f"{max(seconds, 0.0) + 0.001:.3f}"}
    if form == "date":
        until = datetime.now(UTC) + timedelta(seconds=max(seconds, 0.0) + 1.0)
        return {"retry-after": format_datetime(until, usegmt=True)}
    return _retry_after(seconds)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}
