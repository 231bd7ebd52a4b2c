"""REST replies of the venues when they do not answer: too many calls, a ban, an error of their own."""

from __future__ import annotations

import math
import time
from random import Random

import msgspec

from lakehouse.simulator.faults import RestReply

_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
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
    """503 of a venue that is down."""
    return RestReply(b"Service Unavailable", 503, {"content-type": "text/plain"})


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}
