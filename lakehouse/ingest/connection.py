"""Open a WebSocket connection to a venue and read its frames, without looking into them.

The library answers the pings of the protocol as they arrive. A connection without any frame, pings included, for the
venue's `silence_seconds` counts as stale, even if it is open.

The library reads the bytes from the kernel and parses the first frame. Small text frames that are complete in the
buffer after it are taken straight from there, at a tenth of the library's cost; on a busy feed nearly all frames are.
"""

from __future__ import annotations

import html
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from websocket import ABNF, WebSocketException, WebSocketTimeoutException

from lakehouse.errors import VenueError
from lakehouse.exchanges.history import shown
from lakehouse.exchanges.retry_after import retry_after
from lakehouse.ingest.handshake_reply import BODY_BYTES, AnsweredWebSocket, Refusal

#: Most seconds for the connection and for the handshake. If it takes longer, a new attempt is more likely to succeed.
CONNECT_SECONDS = 10.0
#: Seconds after which a read without a frame returns, so that the thread looks at the clock and at the stop event.
TICK_SECONDS = 0.25
#: Seconds to wait for the venue's half of the closing handshake.
CLOSE_SECONDS = 1.0
#: Bytes per read from the kernel. The library reads a frame in three small steps; one system call for hundreds of
#: frames instead, and an empty buffer tells where a burst ends.
READ_BYTES = 262_144

#: First byte of a final text frame; second byte of an unmasked frame with its size in the next two (RFC 6455, 5.2).
_FINAL_TEXT = 0x81
_SIZE_IN_TWO_BYTES = 126

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


class ConnectionLostError(VenueError):
    """Raised if a WebSocket connection could not be made, or has ended."""


class HandshakeRefusedError(ConnectionLostError):
    """Raised if the venue answered the WebSocket handshake with an HTTP error.

    `status` is its HTTP status; `retry_after` the seconds of its Retry-After, None without one.
    """

    def __init__(self, url: str, refusal: Refusal) -> None:
        self.status = refusal.status
        said = refusal_words(refusal.body, refusal.reason)
        super().__init__(
            f"{_host(url)} answered the handshake with HTTP {self.status}{': ' if said else ''}{said}",
            "101",
            refusal_remedy(self.status),
            retry_after(refusal.headers),
        )


class SocketStaleError(ConnectionLostError):
    """Raised if a connection is open but brought no frame for the venue's `silence_seconds`."""


class _BufferedSocket:
    """A connected socket that reads in large pieces and hands out small ones. All else goes to the socket.

    `touched` tells that the library took bytes: if it then timed out, it holds the beginning of a frame.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._at = 0
        self.touched = False

    def recv(self, size: int) -> bytes:
        if self._at >= len(self._buffer):
            self._buffer = self._sock.recv(READ_BYTES)
            self._at = 0
        piece = self._buffer[self._at : self._at + size]
        self._at += len(piece)
        self.touched = True
        return piece

    def whole_text(self) -> bytes | None:
        """The next frame's payload, if it is a final, unmasked text frame below 64 KiB that is whole in the buffer.

        None otherwise, with nothing taken. To be called at the boundary of a frame only.
        """
        buffer, at = self._buffer, self._at
        if len(buffer) < at + 4 or buffer[at] != _FINAL_TEXT:
            return None
        size, start = buffer[at + 1], at + 2
        if size == _SIZE_IN_TWO_BYTES:
            size, start = buffer[at + 2] << 8 | buffer[at + 3], at + 4
        elif size > _SIZE_IN_TWO_BYTES:
            return None
        end = start + size
        if end > len(buffer):
            return None
        self._at = end
        return buffer[start:end]

    @property
    def drained(self) -> bool:
        return self._at >= len(self._buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Connection:
    """One WebSocket connection to `url`, used by one thread: `open` it, `send`, read `frames`, `close` it.

    `ping` is a message to send every `ping_seconds`, None if the venue needs none. `heard` is when the last frame of
    any kind came, in monotonic seconds.
    """

    def __init__(self, url: str, silence_seconds: float, ping: bytes | None, ping_seconds: float) -> None:
        self.url = url
        self.heard = 0.0
        self._silence_seconds = silence_seconds
        self._ping = ping
        self._ping_seconds = ping_seconds
        self._next_ping = 0.0
        # Frames are JSON, and the parser refuses bad UTF-8 itself, in C.
        self._socket: Any = AnsweredWebSocket(skip_utf8_validation=True)
        self._buffer: _BufferedSocket | None = None

    def open(self) -> None:
        """Connect. Raises HandshakeRefusedError if the venue answers with an HTTP error, else ConnectionLostError."""
        try:
            self._socket.connect(self.url, timeout=CONNECT_SECONDS)
        except (WebSocketException, OSError, ValueError) as error:
            answered = self._socket.answered
            if answered is not None and (refusal := answered.refusal) is not None:
                raise HandshakeRefusedError(self.url, refusal) from None
            raise ConnectionLostError(f"no connection to {_host(self.url)}: {_text(error)}") from None
        self._socket.settimeout(TICK_SECONDS)
        self._buffer = self._socket.sock = _BufferedSocket(self._socket.answered.sock)
        self.heard = time.monotonic()
        self._next_ping = self.heard + self._ping_seconds

    def send(self, message: bytes) -> None:
        """Send one text message (UTF-8). Raises ConnectionLostError if that fails."""
        try:
            self._socket.send(message, ABNF.OPCODE_TEXT)
        except (WebSocketException, OSError) as error:
            raise ConnectionLostError(f"sending failed: {_text(error)}") from None

    def frames(self, stop: threading.Event) -> Iterator[bytes | None]:
        """Yield the payloads of text and binary frames until `stop` is set.

        Yields None when every frame that has arrived was yielded, at least every TICK_SECONDS, so that the caller can
        do other work. Raises SocketStaleError after `silence_seconds` without any frame, ConnectionLostError if the
        connection ends.
        """
        buffer = self._buffer
        assert buffer is not None, "frames() before open()"
        receive, whole_text = self._socket.recv_data_frame, buffer.whole_text
        within_frame = received = False
        while not stop.is_set():
            if not within_frame:
                while (text := whole_text()) is not None:
                    yield text
            if within_frame or buffer.drained:
                self._ping_if_due()
                yield None
            if received:
                # After the caller has worked: the time that it waited for Kafka is not the venue's silence.
                self.heard = time.monotonic()
            buffer.touched = received = False
            try:
                opcode, frame = receive(control_frame=True)
            except WebSocketTimeoutException:
                within_frame = within_frame or buffer.touched
                self._check_silence()
                continue
            except (WebSocketException, OSError) as error:
                raise ConnectionLostError(f"connection lost: {_text(error)}") from None
            within_frame, received = False, True
            if opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
                yield frame.data
            elif opcode == ABNF.OPCODE_CLOSE:
                raise ConnectionLostError(f"closed by the venue: {_close_reason(frame.data)}")

    def close(self) -> None:
        """Close with the closing handshake, within CLOSE_SECONDS. Never raises; may be called at any time."""
        self._socket.close(timeout=CLOSE_SECONDS)
        self._socket.shutdown()

    def _check_silence(self) -> None:
        silent = time.monotonic() - self.heard
        if silent >= self._silence_seconds:
            raise SocketStaleError(f"no frame for {silent:.1f} s", f"one every {self._silence_seconds:g} s at least")

    def _ping_if_due(self) -> None:
        if self._ping is not None and time.monotonic() >= self._next_ping:
            self._next_ping = time.monotonic() + self._ping_seconds
            self.send(self._ping)


def refusal_remedy(status: int) -> str:
    """Return the advice for people about a handshake refused with this HTTP status; empty if there is none."""
    return _REMEDIES.get(status, "")


def refusal_words(body: bytes | None, reason: str | None) -> str:
    """Return one line for people about an HTTP error, cut after 120 characters; empty if there is nothing to say.

    The line is the message in a JSON body, or the text of any other body without HTML tags. If the body has no readable
    text, the line is `reason`, the phrase of the HTTP status line.
    """
    text = (body or b"")[:BODY_BYTES].decode("utf-8", "replace")
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


def _host(url: str) -> str:
    return url.split("?", 1)[0]


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _close_reason(data: bytes) -> str:
    if len(data) < 2:
        return "no code"
    text = data[2:].decode("utf-8", "replace")
    return f"code {struct.unpack('!H', data[:2])[0]}{' ' + text if text else ''}"
