"""uvicorn's WebSocket protocol with three additions: many frames in one write, pings, and an end without a close frame.

ASGI sends frame by frame and knows neither pings nor an abrupt end; a simulated exchange needs all three.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame as ProtocolFrame
from websockets.protocol import State

#: RFC 6455, 5.2: final text frame, unmasked, then the length in 7, 16 or 64 bits.
_TEXT = 0x81
_SHORT_HEADERS = [bytes([_TEXT, length]) for length in range(126)]
#: A client that does not answer our close frame within these seconds is dropped; keeps a shutdown under 2 s.
CLOSE_SECONDS = 1.0


def header(length: int) -> bytes:
    """Return the WebSocket header (RFC 6455, 5.2) of an unmasked text frame with a payload of `length` bytes."""
    if length < 126:
        return _SHORT_HEADERS[length]
    if length < 65536:
        return struct.pack(">BBH", _TEXT, 126, length)
    return struct.pack(">BBQ", _TEXT, 127, length)


class Transport(WebSocketsSansIOProtocol):
    """One client's WebSocket connection on the server's side; `transport_of` finds it for an ASGI scope.

    `on_pong` is called with the payload of each pong; `answers_ping` says whether a ping of the client gets a pong.
    """

    on_pong: Callable[[bytes], None] | None = None
    answers_ping: Callable[[], bool] | None = None

    async def run_asgi(self) -> None:
        """Run the ASGI application, with this object in `scope["state"]["transport"]`. Called by uvicorn."""
        self.scope["state"]["transport"] = self
        await super().run_asgi()

    @property
    def is_open(self) -> bool:
        """True from the handshake until either side closes the connection."""
        return (
            self.handshake_complete
            and not self.close_sent
            and self.conn.state is State.OPEN
            and not self.transport.is_closing()
        )

    @property
    def buffered(self) -> int:
        """Bytes that were sent and wait in this process, because the client has not read them yet."""
        return self.transport.get_write_buffer_size()

    def send_texts(self, payloads: Iterable[bytes]) -> None:
        """Send each payload (UTF-8) as one text frame, all in one write. Does nothing if the connection has ended."""
        if self.is_open:
            self.transport.write(b"".join([part for payload in payloads for part in (header(len(payload)), payload)]))

    def send_ping(self, payload: bytes) -> None:
        """Send a WebSocket ping frame. Does nothing if the connection has ended."""
        if self.is_open:
            self.conn.send_ping(payload)
            self.transport.write(b"".join(self.conn.data_to_send()))

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; drop the connection if the client does not answer it within CLOSE_SECONDS."""
        if not self.is_open:
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.close)

    def abort(self) -> None:
        """Drop the TCP connection without a close frame; the client sees close code 1006."""
        self.transport.abort()

    def handle_ping(self) -> None:
        """Answer a client's ping frame with a pong, unless `answers_ping` returns False. Called by uvicorn."""
        output = self.conn.data_to_send()
        if self.answers_ping is None or self.answers_ping():
            self.transport.write(b"".join(output))

    def handle_pong(self, event: ProtocolFrame) -> None:
        """Pass the payload of a client's pong frame to `on_pong`. Called by uvicorn."""
        if self.on_pong is not None:
            self.on_pong(bytes(event.data))


def transport_of(scope: Any) -> Transport:
    """Return the Transport of an ASGI WebSocket scope."""
    connection = scope["state"]["transport"]
    assert isinstance(connection, Transport)
    return connection
