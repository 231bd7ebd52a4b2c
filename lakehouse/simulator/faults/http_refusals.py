"""The words of the venues when they refuse, over REST and to a handshake: too many calls, a ban, a blocked address,
a restricted location, an error of their own.

The words of the limits and of Binance's 451 are the venues' (their documentation, reports of users); the pages of 403
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

#: Statuses of a refused handshake that pass within the time that they name, and the forms in which they name it.
PASSING = ("418", "429", "503")
FORMS = ("seconds", "decimals", "date")
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_FORBIDDEN = (
    b"<!DOCTYPE html><html><head><title>403 Forbidden</title><style>body { color: #404040 }</style></head>"
    b"<body><h1>Sorry, you have been blocked</h1></body></html>"
)
_UNAVAILABLE = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body></body></html>"
_RESTRICTED = "Service unavailable from a restricted location."
_KRAKEN_ERRORS = ("EService:Unavailable", "EService:Busy", "EGeneral:Internal error")


def too_many(venue: str, seconds: float) -> RestReply:
    """429, to be asked again after so many seconds."""
    body: dict[str, object] = {"message": "Public rate limit exceeded"}
    if venue == "binance":
        body = {
            "code": -1003,
            "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE.",
        }
    elif venue == "kraken":
        body = {"error": ["EAPI:Rate limit exceeded"]}
    return RestReply(msgspec.json.encode(body), 429, _retry_after(seconds))


def kraken_rate_limit() -> RestReply:
    """Kraken's own way: an error inside HTTP 200, without a word of when to ask again."""
    return RestReply(b'{"error":["EAPI:Rate limit exceeded"]}')


def banned(seconds: float) -> RestReply:
    """Binance's 418: banned for so many seconds."""
    until = time.time_ns() // 1_000_000 + round(seconds * 1000)
    message = (
        f"Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live updates."
    )
    return RestReply(msgspec.json.encode({"code": -1003, "msg": message}), 418, _retry_after(seconds))


def failed(venue: str, random: Random) -> RestReply:
    """500 with the venue's error, 502 with a page of HTML, or Kraken's error inside HTTP 200."""
    if random.random() < 0.5:
        return RestReply(_BAD_GATEWAY, 502, {"content-type": "text/html"})
    if venue == "kraken":
        return RestReply(msgspec.json.encode({"error": [random.choice(_KRAKEN_ERRORS)]}))
    if venue == "binance":
        message = "An unknown error occurred while processing the request."
        return RestReply(msgspec.json.encode({"code": -1000, "msg": message}), 500)
    return RestReply(b'{"message":"Internal server error"}', 500)


def unavailable() -> RestReply:
    """The 503 of a venue that is down."""
    return RestReply(b"Service Unavailable", 503, {"content-type": "text/plain"})


def handshake(venue: str, status: int, seconds: float, form: str) -> Refusal:
    """A refused handshake: 403, 418, 429, 451 or 503, to be tried again after so many seconds, told in this form."""
    headers = {**_named(seconds, form), "content-type": "text/html"}
    if status == 403:
        return Refusal(status, headers, _FORBIDDEN)
    if status == 503:
        return Refusal(status, headers, _UNAVAILABLE)
    headers["content-type"] = "application/json"
    if status == 418:
        return Refusal(status, headers, banned(seconds).body)
    if status == 451:
        body = {"code": 0, "msg": _RESTRICTED} if venue == "binance" else {"message": _RESTRICTED}
        return Refusal(status, headers, msgspec.json.encode(body))
    if venue == "binance":
        return Refusal(status, headers, too_many(venue, seconds).body)
    return Refusal(status, {**headers, "content-type": "text/plain"}, b"error code: 1015")


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
