"""The checks before a request is answered: host, rate, key, size, number at once. ASGI, without a framework.

Every refusal is a problem and costs a millisecond at most. Nothing here writes a header or a URL to a log.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from lakehouse.serving.access import LOOPBACK_NAMES, KeyCheck, is_same_origin
from lakehouse.serving.page_files import is_page
from lakehouse.serving.problems import MEDIA_TYPE, Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Headers of every answer: a browser must not guess another type.
_ALWAYS = ((b"x-content-type-options", b"nosniff"),)


@dataclass(frozen=True)
class Limits:
    """Limits of one server. A client is an IPv4 address, or the /64 network of an IPv6 address."""

    body_bytes: int = 65_536  #: no path takes a body
    query_characters: int = 8_192
    sockets: int = 500  #: WebSockets that are open
    at_once: int = 64  #: requests that are being answered; each may hold an answer of some MB
    rate: float = 500.0  #: requests per second and client, in the long run
    burst: int = 1_000  #: requests that a client may send at once
    clients: int = 10_000  #: clients whose rate is remembered


class Rates:
    """A bucket of requests for each client, filled at a rate. Pure: times are arguments."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, now: float) -> float:
        """Count a request of a client at `now` (monotonic seconds) if it is allowed.

        Returns 0 if it is, else the seconds to wait for the next one.
        """
        left, then = self._buckets.pop(client, (float(self._limits.burst), now))
        left = min(float(self._limits.burst), left + (now - then) * self._limits.rate)
        taken = left >= 1.0
        self._buckets[client] = (left - 1.0 if taken else left, now)
        if len(self._buckets) > self._limits.clients:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - left) / self._limits.rate


def client_of(scope: Scope) -> str:
    """Return the client of a request: its IPv4 address, or the /64 network of its IPv6 address."""
    host = str((scope.get("client") or ("unknown", 0))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.ip_network((address, 64), strict=False))


class Guard:
    """The checks around an application."""

    def __init__(self, app: App, key: KeyCheck, limits: Limits, is_local: bool) -> None:
        """`is_local`: only this machine can reach the server, so that only its own names are accepted as a host."""
        self._app = app
        self._key = key
        self._limits = limits
        self._is_local = is_local
        self._rates = Rates(limits)
        self._at_once = 0
        self._sockets = 0

    @property
    def sockets(self) -> int:
        """Number of open WebSockets."""
        return self._sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Problem as problem:
            await refuse(problem, send)
            return
        self._at_once += 1
        try:
            await self._app(scope, receive, _with_headers(send))
        finally:
            self._at_once -= 1

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a WebSocket by the same checks, or refuse it before it is open, as a request is refused."""
        try:
            self._check(scope)
            if not is_same_origin(dict(scope["headers"])):
                raise Problem("wrong-origin", "a page of another origin; expected one of this server, or no browser")
            if self._sockets >= self._limits.sockets:
                raise Problem("busy", f"{self._sockets} open streams; expected fewer than {self._limits.sockets}")
        except Problem as problem:
            await receive()
            await refuse(problem, send, "websocket.http.response")
            return
        self._sockets += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._sockets -= 1

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._is_local:
            self._check_host(headers.get(b"host", b"").decode("latin-1"))
        wait = self._rates.wait(client_of(scope), time.monotonic())
        if wait:
            raise Problem(
                "rate-limited",
                f"more than {self._limits.rate:g} requests a second; expected fewer; wait {wait:.3f} s",
                {"Retry-After": str(max(1, round(wait)))},
            )
        if not is_page(scope["path"]) and not self._key.allows(headers):
            raise Problem(
                "no-key",
                "no API key, or a wrong one; expected the header Authorization: Bearer KEY, or X-API-Key: KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        query = len(scope.get("query_string", b""))
        if query > self._limits.query_characters:
            raise Problem(
                "query-too-long",
                f"a query string of {query:,} characters; expected {self._limits.query_characters:,} at most",
            )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._limits.body_bytes:
            raise Problem(
                "body-too-large",
                f"a body of {length.decode('latin-1')[:20]} bytes; expected none, or at most {self._limits.body_bytes}",
            )
        if b"transfer-encoding" in headers:
            raise Problem("no-length", "a body of unknown length; expected none, or one with Content-Length")
        if self._at_once >= self._limits.at_once:
            raise Problem(
                "busy",
                f"{self._at_once} requests are being answered; expected fewer than {self._limits.at_once}; try again "
                "in a second",
                {"Retry-After": "1"},
            )

    def _check_host(self, host: str) -> None:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.strip("[]").lower() not in LOOPBACK_NAMES:
            raise Problem("wrong-host", f"host {host[:80]!r}; expected localhost or 127.0.0.1")


async def refuse(problem: Problem, send: Send, kind: str = "http.response") -> None:
    """Send a problem as the whole answer; `kind` is the beginning of ASGI's names for its messages."""
    body = problem.body()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *_ALWAYS,
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": f"{kind}.start", "status": problem.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_ALWAYS]
        await send(message)

    return with_headers
