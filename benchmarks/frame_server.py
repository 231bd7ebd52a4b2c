"""A venue that sends everything at once: `python -m benchmarks.frame_server FRAMES`, a process of its own.

Writes its port, then sends the prepared WebSocket frames of the file FRAMES to whoever connects, as fast as the other
side takes them, and keeps the socket open until its stdin ends. The frames are made before, so that this process costs
the machine next to nothing while ingest is measured.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from websockets.sync.server import ServerConnection, serve

FINAL_TEXT = 0x81


def wire(frames: Iterable[bytes]) -> bytes:
    """Text frames as a server sends them: unmasked, each whole (RFC 6455, 5.2). Each below 64 KiB."""
    parts = []
    for frame in frames:
        size = len(frame)
        parts.append(bytes((FINAL_TEXT, size)) if size < 126 else struct.pack("!BBH", FINAL_TEXT, 126, size))
        parts.append(frame)
    return b"".join(parts)


def main(file: Path) -> None:
    """Serve until stdin ends."""
    blob = file.read_bytes()

    def send(connection: ServerConnection) -> None:
        connection.recv()  # the subscription
        connection.socket.sendall(blob)
        for _ in connection:  # until the other side closes
            pass

    listener = socket.create_server(("127.0.0.1", 0))
    with serve(send, sock=listener, compression=None, ping_interval=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
