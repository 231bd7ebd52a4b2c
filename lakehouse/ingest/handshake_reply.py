"""Keep the HTTP answer of a venue that refuses a WebSocket handshake: status, headers, and the beginning of its body.

websocket-client gives the body only if a correct Content-Length comes with it, and loses the status if the body is
shorter. So a wrapper of the socket remembers the answer while the library reads it, and reads the body of a refusal
itself, in whichever way its length is given (RFC 9112, 6.3), within bounds of size and time.
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

#: Most bytes of a body that are read: so many, because the text of an HTML page comes after its styles and scripts.
BODY_BYTES = 16_384
#: Most seconds to wait for the body, which comes with the status as a rule; the connection may stay open after it.
BODY_SECONDS = 2.0
#: Most seconds and bytes for status and headers: far more than any venue needs.
HEAD_SECONDS = 10.0
HEAD_BYTES = 65_536
#: Statuses of no refusal: the websocket, and the redirects that the library follows.
_GOES_ON = (101, 301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Refusal:
    """The HTTP answer that refused a WebSocket handshake, its body cut after BODY_BYTES.

    Header names are in lower case; if two headers have the same name, the last one is kept. `reason` is the phrase
    after the status, such as `Forbidden`.
    """

    status: int
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class AnsweredSocket:
    """Wraps a connected socket during the handshake and remembers the answer that the library reads from it.

    All methods except `recv` are the socket's own.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._head = bytearray()
        self._refusal: Refusal | None = None
        self._until = time.monotonic() + HEAD_SECONDS

    def recv(self, size: int) -> bytes:
        """Read at most `size` bytes; none after the headers of a refusal, because its body has been read for `refusal`.

        Raises WebSocketException if the headers are too long, WebSocketTimeoutException if they take too long.
        """
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
        """The refusal in the answer, even if only its status line came; None if the handshake was not refused."""
        return self._refusal or _refusal(bytes(self._head))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class AnsweredWebSocket(websocket.WebSocket):
    """The library's WebSocket; `answered` wraps its newest socket, and has the venue's refusal if there was one."""

    answered: AnsweredSocket | None = None
    _wrapped: Any = None

    @property
    def sock(self) -> Any:
        """The socket from which the library reads; a plain socket that is set is wrapped in `AnsweredSocket`."""
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
