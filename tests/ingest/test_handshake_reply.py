"""Answers to the handshake as raw bytes: the venue's words and its status, however the body's length is told."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from lakehouse.ingest.connection import Connection, ConnectionLostError, HandshakeRefusedError
from lakehouse.ingest.handshake_reply import BODY_SECONDS

BODY = b'{"code":0,"msg":"Service unavailable from a restricted location."}'
WORDS = "Service unavailable from a restricted location."


@contextlib.contextmanager
def answering(parts: Sequence[bytes], stays_open: bool) -> Iterator[str]:
    """A server that reads a request, sends the parts one after the other, and closes or waits."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.recv(65_536)
                for part in parts:
                    client.sendall(part)
                    time.sleep(0.02)
                if stays_open:
                    over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.getsockname()[1]}/stream"
        finally:
            over.set()
            thread.join()


def lost(*parts: bytes, stays_open: bool = False) -> ConnectionLostError:
    with answering(parts, stays_open) as url:
        connection = Connection(url, 5.0, None, 0.0)
        with pytest.raises(ConnectionLostError) as caught:
            connection.open()
        connection.close()
    return caught.value


def refused(*parts: bytes, stays_open: bool = False) -> HandshakeRefusedError:
    error = lost(*parts, stays_open=stays_open)
    assert isinstance(error, HandshakeRefusedError), error
    return error


def answer(status: bytes, headers: bytes = b"", body: bytes = BODY) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n" + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("status", [b"451 Unavailable For Legal Reasons", b"403 Forbidden", b"429 Too Many", b"503 x"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: %d\r\n" % len(BODY), BODY),
        (CHUNKED, chunked(BODY)),
        (CHUNKED, chunked(BODY[:7], BODY[7:30], BODY[30:])),
        (CHUNKED, chunked(BODY, end=b"")),  # cut before its end
        (CHUNKED, chunked(BODY, end=b"ffff\r\n")),
        (b"Connection: close\r\n", BODY),
        (b"", BODY),
        (b"Content-Length: 5000000000\r\n", BODY),
        (b"Content-Length: %d\r\n" % (len(BODY) + 1), BODY),
        (b"Content-Length: 1000000000000000000000000000000\r\n", BODY),
        (b"Content-Length: -1\r\n", BODY),
        (b"Content-Length: many\r\n", BODY),
    ],
)
def test_the_words_come_whichever_way_the_length_is_told(status: bytes, headers: bytes, body: bytes) -> None:
    error = refused(answer(status, headers + b"Retry-After: 7\r\n", body))
    assert (error.status, error.retry_after) == (int(status[:3]), 7.0)
    assert f"HTTP {status[:3].decode()}: {WORDS}; expected 101" in str(error)


def test_a_body_in_parts() -> None:
    whole = answer(b"403 Forbidden", CHUNKED, chunked(BODY))
    error = refused(*(whole[at : at + 40] for at in range(0, len(whole), 40)))
    assert WORDS in str(error)


@pytest.mark.parametrize("headers", [b"", b"Content-Length: 70000\r\n"])
def test_a_connection_that_stays_open_is_not_waited_for(headers: bytes) -> None:
    began = time.monotonic()
    error = refused(answer(b"403 Forbidden", headers), stays_open=True)
    assert time.monotonic() - began < BODY_SECONDS + 2
    assert WORDS in str(error)


def test_a_whole_body_is_not_waited_behind() -> None:
    began = time.monotonic()
    for headers, body in ((b"Content-Length: %d\r\n" % len(BODY), BODY), (CHUNKED, chunked(BODY))):
        assert WORDS in str(refused(answer(b"403 Forbidden", headers, body), stays_open=True))
    assert time.monotonic() - began < BODY_SECONDS


@pytest.mark.parametrize("headers", [b"", b"Content-Length: 9000000\r\n", b"Content-Length: 900000000\r\n"])
def test_no_more_is_read_than_is_looked_at(headers: bytes) -> None:
    error = refused(answer(b"403 Forbidden", headers, b""), *([b"blocked " * 100_000] * 10))
    assert error.status == 403
    assert "HTTP 403: blocked blocked" in str(error)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n", 403),  # cut after the status line
        (b"HTTP/1.1 451 x\r\nContent-Le", 451),
        (b"HTTP/1.1 403 Forbidden\r\nno colon\r\n\r\n", 403),
        (b"HTTP/1.1 429 \xff\xfe\r\nX: \xff\r\n\r\n", 429),
        (b"HTTP/1.1 418\r\n\r\n", 418),
        (b"HTTP/2 403 Forbidden\r\n\r\n", 403),
        (b"HTTP/1.1 403 Forbidden\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 403),
        (b"HTTP/1.1 403 Forbidden\r\n" + b"X: 1\r\n" * 9_000, 403),
        (answer(b"200 OK", b"", b"<html>log in first</html>"), 200),
        (answer(b"403 Forbidden", b"Content-Encoding: gzip\r\n", gzip.compress(BODY)), 403),
    ],
)
def test_the_status_is_never_lost(raw: bytes, status: int) -> None:
    assert refused(raw).status == status


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 403 Forb",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc Forbidden\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_what_is_no_refusal(raw: bytes) -> None:
    assert not isinstance(lost(raw), HandshakeRefusedError)
