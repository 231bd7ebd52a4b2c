"""What a venue says when it refuses a websocket's handshake with an HTTP status, and what a person can do. Pure."""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import Any

import msgspec

from lakehouse.exchanges.history import shown

#: Bytes of a body that are looked at: the words of a page of HTML stand behind its styles and scripts.
READ_BYTES = 16_384
#: Keys under which the venues' JSON errors and those of the firewalls before them carry their words.
_KEYS = ("msg", "message", "error", "reason", "detail")
_INVISIBLE = re.compile(r"(?is)<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)")
_REMEDIES: dict[int, str] = {
    HTTPStatus.FORBIDDEN: "the venue or a firewall before it blocks this address: look at proxies and VPNs on the way, "
    "run from another address, or take the venue out of LAKEHOUSE_VENUES",
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "the venue serves nobody at this location: take it out of "
    "LAKEHOUSE_VENUES, or run where its terms allow it",
    HTTPStatus.IM_A_TEAPOT: "this address is banned for too many requests: look what else at this address uses the "
    "venue; it is tried again when the ban is over",
    HTTPStatus.TOO_MANY_REQUESTS: "this address makes too many requests: look what else at it uses the venue; it is "
    "tried again when the venue allows it",
}


def remedy(status: int) -> str:
    """What a person can do about a status; empty where it is only to be waited for."""
    return _REMEDIES.get(status, "")


def words(body: bytes | None, reason: str | None) -> str:
    """The venue's own words in one short line: its JSON's message, else its text without HTML, else HTTP's `reason`."""
    text = (body or b"")[:READ_BYTES].decode("utf-8", "replace")
    try:
        said = _message(msgspec.json.decode(body or b""))
    except (ValueError, RecursionError):
        said = html.unescape(_INVISIBLE.sub(" ", text))
    # A body that is no text (compressed) says nothing.
    if not said.strip() or "\0" in said or said.count("\N{REPLACEMENT CHARACTER}") > len(said) // 10:
        said = reason or ""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())
    return shown(line) if line else ""


def _message(value: Any) -> str:
    """The words in a JSON error: `{"msg": …}`, `{"error": ["…"]}`, `{"error": {"message": …}}`, or a mere string."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(filter(None, map(_message, value)))
    if isinstance(value, dict):
        return next(filter(None, (_message(value.get(key)) for key in _KEYS)), "")
    return ""
