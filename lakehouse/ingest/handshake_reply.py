"""The answer of a venue that refuses a websocket's handshake: status, headers, and the beginning of its body.

websocket-client tells the body only if a Content-Length that is right comes with it, reads as much as that says, and
loses the status if less comes. So the socket remembers the answer while the library reads it, and reads the body of a
refusal itself, however its length is told (RFC 9112, 6.3), within bounds of size and time.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import websocket
from websocket import WebSocketException, WebSocketTimeoutException

#: Bytes of a body that are read: the words of a page of HTML stand behind its styles and scripts.
BODY_BYTES = 16_384
#: Seconds for the body, which comes with the status as a rule; a connection may stay open behind it.
BODY_SECONDS = 2.0
#: Seconds and bytes for status and headers: more than any venue's by far.
HEAD_SECONDS = 10.0
HEAD_BYTES = 65_536
#: Statuses of no refusal: the websocket, and the redirects that the library follows.
_GOES_ON = (101, 301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Refusal:
    """A refusal as received; header names are in small letters, and the last header of a name counts."""

    status: int
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class AnsweredSocket:
    """A connected socket until the handshake is over. All but `recv` goes to the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._head = bytearray()
        self._refusal: Refusal | None = None
        self._until = time.monotonic() + HEAD_SECONDS

    def recv(self, size: int) -> bytes:
        """Read at most `size` bytes. Nothing more comes after the headers of a refusal: its body is taken."""
        if self._refusal is not None:
            return b""
        if len(self._head) > HEAD_BYTES:
            raise WebSocketException(f"more than {HEAD_BYTES} bytes of headers in the answer to the handshake")
        if time.monotonic() > self._until:
            raise WebSocketTimeoutException(f"no whole answer to the handshake within {HEAD_SECONDS:g} s")
        piece = self.sock.recv(size)
        self._head += piece
        if piece.endswith(b"\n") and self._head.endswith((b"\r\n\r\n", b"\n\n")):
            self._refusal = _refusal(bytes(self._head), self.sock)
        return piece

    @property
    def refusal(self) -> Refusal | None:
        """The refusal, also if only its status line came whole; None if the answer is none."""
        return self._refusal or _refusal(bytes(self._head))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class AnsweredWebSocket(websocket.WebSocket):
    """The library's websocket, whose newest socket remembers the answer to the handshake as `answered`."""

    answered: AnsweredSocket | None = None
    _wrapped: Any = None

    @property
    def sock(self) -> Any:
        """The socket from which the library reads."""
        return self._wrapped

    @sock.setter
    def sock(self, sock: Any) -> None:
        if isinstance(sock, socket.socket):
            sock = self.answered = AnsweredSocket(sock)
        self._wrapped = sock


class _Stream(io.RawIOBase):
    """The bytes that were read, then those of the socket, if any, until BODY_SECONDS have passed."""

    def __init__(self, head: bytes, sock: socket.socket | None) -> None:
        self._head = head
        self._sock = sock
        self._until = time.monotonic() + BODY_SECONDS

    def readable(self) -> bool:
        return True

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that http.client asks of a socket."""
        return io.BufferedReader(self)

    def readinto(self, buffer: Any) -> int:
        piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        left = self._until - time.monotonic()
        if not piece and self._sock is not None and left > 0:
            try:
                self._sock.settimeout(left)
                piece = self._sock.recv(len(buffer))
            except OSError:
                self._sock = None
        buffer[: len(piece)] = piece
        return len(piece)


def _refusal(head: bytes, sock: socket.socket | None = None) -> Refusal | None:
    line, stop, _ = head.partition(b"\n")
    parts = line.decode("utf-8", "replace").strip().split(" ", 2)
    if not stop or len(parts) < 2 or not (parts[1].isascii() and parts[1].isdecimal() and len(parts[1]) == 3):
        return None
    status, reason = int(parts[1]), " ".join(parts[2:])
    if status in _GOES_ON:
        return None
    response = http.client.HTTPResponse(_Stream(head, sock))  # type: ignore[arg-type]  # it asks for makefile() alone
    headers: dict[str, str] = {}
    body = bytearray()
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        while len(body) < BODY_BYTES and (piece := response.read1(BODY_BYTES)):
            body += piece
    except (http.client.HTTPException, OSError, ValueError):
        pass  # what has come by then is what the venue says
    return Refusal(status, reason, headers, bytes(body[:BODY_BYTES]))
