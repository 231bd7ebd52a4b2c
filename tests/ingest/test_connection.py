"""One websocket connection, against a real server on localhost."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.sync.server import ServerConnection

from lakehouse.ingest import connection as module
from lakehouse.ingest.connection import Connection, ConnectionLostError, SocketStaleError
from tests.support.ingest_tools import venue_server


@contextmanager
def opened(
    url: str, silence: float = 5.0, ping: bytes | None = None, ping_seconds: float = 0.0
) -> Iterator[Connection]:
    connection = Connection(url, silence, ping, ping_seconds)
    connection.open()
    try:
        yield connection
    finally:
        connection.close()


def payloads(connection: Connection) -> Iterator[bytes]:
    return (frame for frame in connection.frames(threading.Event()) if frame is not None)


@pytest.mark.parametrize("read_bytes", [3, 1000, module.READ_BYTES])
def test_frames_of_every_shape_arrive_whole_and_in_order(monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    monkeypatch.setattr(module, "READ_BYTES", read_bytes)
    rng = random.Random(read_bytes)
    sizes = [0, 1, 2, 3, 124, 125, 126, 127, 128, 65_535, 65_536, 70_000]
    sent = [rng.randbytes(size // 2).hex() + "x" * (size % 2) for size in [*sizes, *rng.choices(range(300), k=300)]]

    def script(server: ServerConnection) -> None:
        for number, text in enumerate(sent):
            if number % 7 == 0:
                server.ping(str(number))
            if number % 5 == 0 and len(text) > 2:
                server.send([text[:1], text[1:2], text[2:]])
            elif number % 11 == 0:
                server.send(text.encode())
            else:
                server.send(text)
        server.recv()

    with venue_server(script) as url, opened(url) as connection:
        assert [frame.decode() for frame in islice(payloads(connection), len(sent))] == sent


def test_a_silent_socket_is_stale_even_within_a_frame() -> None:
    def script(server: ServerConnection) -> None:
        server.send("one")
        server.socket.sendall(b"\x81\x05tw")  # the beginning of a frame, and then nothing
        server.recv()

    with venue_server(script) as url, opened(url, silence=0.5) as connection:
        frames = payloads(connection)
        assert next(frames) == b"one"
        began = time.monotonic()
        with pytest.raises(SocketStaleError, match=r"no frame for 0\.\d s; expected one every 0\.5 s at least"):
            next(frames)
        assert 0.4 < time.monotonic() - began < 2


def test_a_frame_that_comes_in_two_halves_with_a_pause() -> None:
    def script(server: ServerConnection) -> None:
        server.socket.sendall(b"\x81\x05tw")
        time.sleep(0.4)  # longer than a tick
        server.socket.sendall(b"ice\x81\x03two")
        server.recv()

    with venue_server(script) as url, opened(url) as connection:
        frames = payloads(connection)
        assert [next(frames), next(frames)] == [b"twice", b"two"]


def test_protocol_pings_are_signs_of_life_and_are_answered() -> None:
    answered: list[bool] = []

    def script(server: ServerConnection) -> None:
        for _ in range(6):
            answered.append(server.ping().wait(1))
            time.sleep(0.2)
        server.send("done")
        server.recv()

    with venue_server(script) as url, opened(url, silence=0.5) as connection:
        assert next(payloads(connection)) == b"done"
    assert answered == [True] * 6


def test_time_that_the_reader_spends_is_not_silence() -> None:
    def script(server: ServerConnection) -> None:
        server.send("one")
        time.sleep(1.0)
        server.send("two")
        server.recv()

    with venue_server(script) as url, opened(url, silence=0.6) as connection:
        frames = payloads(connection)
        assert next(frames) == b"one"
        time.sleep(0.8)  # as if Kafka were away
        assert next(frames) == b"two"


def test_application_pings_are_sent_when_due() -> None:
    got: list[str | bytes] = []

    def script(server: ServerConnection) -> None:
        for _ in range(2):
            got.append(server.recv())
        server.send("done")
        server.recv()

    with venue_server(script) as url, opened(url, ping=b'{"method":"ping"}', ping_seconds=0.3) as connection:
        assert next(payloads(connection)) == b"done"
    assert got == ['{"method":"ping"}'] * 2


def test_the_reason_of_a_close_is_kept() -> None:
    with (
        venue_server(lambda server: server.close(1008, "too slow")) as url,
        opened(url) as connection,
        pytest.raises(ConnectionLostError, match="closed by the venue: code 1008 too slow"),
    ):
        next(payloads(connection))


def test_a_cut_without_a_close_frame() -> None:
    with (
        venue_server(lambda server: server.socket.shutdown(socket.SHUT_RDWR)) as url,
        opened(url) as connection,
        pytest.raises(ConnectionLostError, match="connection lost"),
    ):
        next(payloads(connection))


def test_a_limited_handshake_names_the_seconds_to_wait() -> None:
    response = Response(429, "Too Many Requests", Headers({"Retry-After": "7", "Content-Length": "0"}))
    with (
        venue_server(lambda _: None, refuse=lambda *_: response) as url,
        pytest.raises(ConnectionLostError, match="HTTP 429") as caught,
        opened(url),
    ):
        pass
    assert caught.value.retry_after == 7


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        with pytest.raises(ConnectionLostError, match=f"no connection to {url}: .*refused"), opened(url):
            pass


def test_stop_is_heard_within_a_tick_and_the_venue_gets_a_close_frame() -> None:
    closed = threading.Event()

    def script(server: ServerConnection) -> None:
        try:
            server.recv()
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == 1000:
                closed.set()

    with venue_server(script) as url, opened(url) as connection:
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        began = time.monotonic()
        assert [frame for frame in connection.frames(stop) if frame] == []
        assert time.monotonic() - began < 2 * module.TICK_SECONDS + 0.5
        connection.close()
        assert closed.wait(2)
