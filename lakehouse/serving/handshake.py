"""The WebSocket protocol of uvicorn, with an answer to a request that is too large for it.

The library websockets refuses a line of more than 8,192 bytes and more than 128 headers; uvicorn (0.54) then sends
nothing and keeps the connection open.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from lakehouse.serving.problems import MEDIA_TYPE, Problem

MOST_LINE_BYTES = 8_000
MOST_HEADERS = 120


class CheckedHandshake(WebSocketsSansIOProtocol):
    """Refuses a request whose lines are too long or too many; uvicorn hands the request over in one piece."""

    _is_begun = False
    _plain: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        self._plain = cast("asyncio.Transport", transport)  # that of uvloop has another base
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take the request first, then frames."""
        if not self._is_begun:
            self._is_begun = True
            problem = _problem(data.split(b"\r\n"))
            if problem is not None:
                body = problem.body()
                self._plain.write(
                    f"HTTP/1.1 {problem.status} {problem.title}\r\nContent-Type: {MEDIA_TYPE}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                self._plain.close()
                return
        super().data_received(data)


def _problem(lines: list[bytes]) -> Problem | None:
    if len(lines[0]) > MOST_LINE_BYTES:
        return Problem(
            "query-too-long", f"a URL of {len(lines[0]):,} bytes; expected {MOST_LINE_BYTES:,} at most for a WebSocket"
        )
    longest = max(map(len, lines))
    if longest > MOST_LINE_BYTES or len(lines) > MOST_HEADERS:
        return Problem(
            "headers-too-large",
            f"{len(lines)} headers of {longest:,} bytes at most; expected {MOST_HEADERS} of {MOST_LINE_BYTES:,}",
        )
    return None
