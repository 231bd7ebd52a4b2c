"""Errors as `application/problem+json` (RFC 9457): type, title, status, and a detail with found, expected, remedy."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from lakehouse.errors import LakehouseError

MEDIA_TYPE = "application/problem+json"

#: Kind of a problem → its status and title.
KINDS: dict[str, tuple[int, str]] = {
    "bad-parameter": (400, "A parameter cannot be used"),
    "bad-cursor": (400, "The cursor cannot be used"),
    "wrong-host": (421, "The host is not served here"),
    "no-key": (401, "The API key is missing or wrong"),
    "wrong-origin": (403, "Pages of other origins are not served"),
    "not-found": (404, "There is no such path"),
    "method-not-allowed": (405, "The path does not take this method"),
    "not-acceptable": (406, "None of the accepted forms is served"),
    "version-gone": (410, "The version of the table is no longer kept"),
    "no-length": (411, "The request has a body of unknown length"),
    "body-too-large": (413, "The request has too large a body"),
    "range-too-large": (400, "The range is too large for one request"),
    "query-too-long": (414, "The query string is too long"),
    "headers-too-large": (431, "The headers are too large"),
    "rate-limited": (429, "Too many requests from this client"),
    "internal": (500, "The request failed"),
    "busy": (503, "Too many requests at once"),
    "query-time": (503, "The query takes too long"),
    "lake-not-ready": (503, "The lake cannot be read now"),
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A request that cannot be answered. `kind` is one of KINDS; `headers` go into the response."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status, self.title = KINDS[kind]
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, kind: str, error: LakehouseError) -> Problem:
        """Return the problem for a LakehouseError, whose message becomes the detail."""
        return cls(kind, str(error))

    def body(self) -> bytes:
        """Return the JSON body."""
        return body(f"urn:lakehouse:problem:{self.kind}", self.title, self.status, self.detail)


def body(kind: str, title: str, status: int, detail: str) -> bytes:
    """Return the JSON body of a problem."""
    return msgspec.json.encode({"type": kind, "title": title, "status": status, "detail": detail})


def plain(status: int, detail: str) -> bytes:
    """Return the JSON body of a problem that is not in KINDS: a status of HTTP and a sentence."""
    return body("about:blank", HTTPStatus(status).phrase, status, detail)
