"""Random URLs and random frames at `/v1/stream` of a real server: a documented end each time, and nothing left over."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from lakehouse.serving.answers import Api
from lakehouse.serving.app import build_app
from lakehouse.serving.fan_out import FanOut
from lakehouse.serving.guard import Guard
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import running
from tests.support.market_lake import MarketLake

#: Those of docs/reading-the-data.md.
CODES = {1000, 1002, 1007, 1008, 1009, 1013}
GOOD = "venue=binance&symbol=BTC/USDT"
FUZZED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Served:
    """A server, its application, and what counts its subscriptions."""

    url: str
    app: Guard
    fan_out: FanOut

    def is_quiet(self) -> bool:
        return self.app.sockets == 0 and len(self.fan_out) == 0


@pytest.fixture(scope="module")
def served(market: MarketLake) -> Iterator[Served]:
    made: list[Api] = []

    def api(*arguments: Any) -> Api:
        made.append(Api(*arguments))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.serving.app.Api", api)
        app = build_app(market.settings, UNLIMITED)
    with running(market.settings, UNLIMITED, app=app) as url:
        yield Served(url, app, made[0].fan_out)


@pytest.fixture(autouse=True)
def nothing_left(served: Served, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Afterwards nobody is subscribed, the server answers, and no trace stands in the log."""
    with caplog.at_level(logging.WARNING):
        yield
    deadline = time.monotonic() + 30
    while not served.is_quiet():
        assert time.monotonic() < deadline, (served.app.sockets, len(served.fan_out))
        time.sleep(0.05)
    assert httpx.get(f"{served.url}/v1/health", timeout=30).status_code == 200
    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR
    ] == []


# --- URLs

_NAMES = st.sampled_from(
    ["venue", "symbol", "kind", "size", "from", "to", "speed", "after", "missing", "hold", "", "venue[]", "Venue"]
)
_VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                "binance",
                "kraken",
                "BTC/USDT",
                "ETH/USD",
                "bars",
                "trades",
                "1m",
                "7m",
                "-1",
                "0",
                "1e400",
                "nan",
                "inf",
            ),
            *("2026-11-01", "2026-11-01T13:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01", "+00:00", "5-3", "1-2,3-4"),
            *("999999999999999999", "1000000000000000000", "0x10", "\u0663", "%", "\x00", "1,", ",", "-", "1-", "--"),
        ]
    ),
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8), st.booleans())
@FUZZED
def test_any_url_is_served_or_refused_in_words(served: Served, query: list[tuple[str, str]], is_good: bool) -> None:
    text = "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in query)
    if is_good:
        text = f"{GOOD}&{text}"
    try:
        with connect(f"{served.url.replace('http', 'ws')}/v1/stream?{text}", open_timeout=20, max_size=None) as client:
            message = json.loads(client.recv(timeout=0.2))
            assert message["type"] in ("problem", "live", "trades", "bars", "gap")
            if message["type"] == "problem":
                assert "expected" in message["detail"]
                assert "\n" not in message["detail"]
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(timeout=20)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "see the problem")
    except TimeoutError:
        pass  # a stream from the past waits for Kafka, which there is not


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/stream?x=" + "y" * 7_960, {}, 101),
        ("/v1/stream?x=" + "y" * 9_000, {}, 414),
        (f"/v1/stream?{GOOD}", {"X-Long": "y" * 9_000}, 431),
        (f"/v1/stream?{GOOD}", {f"X-{number}": "y" for number in range(130)}, 431),
        (f"/v1/stream?{GOOD}", {"Host": "evil.example"}, 421),
        ("/v1/streams", {}, 403),
        ("/", {}, 403),
    ],
)
def test_what_is_no_stream_is_refused_by_http(served: Served, path: str, headers: dict[str, str], status: int) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    words = {"Host": f"{host}:{port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    words |= {"Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()} | headers
    with socket.create_connection((host, int(port)), 20) as raw:
        lines = "".join(f"{name}: {value}\r\n" for name, value in words.items())
        raw.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = raw.recv(65_536).decode("utf-8", "replace")
        assert answer.startswith(f"HTTP/1.1 {status} ")
        if status not in (101, 403):
            while part := raw.recv(65_536):
                answer += part.decode()
            assert json.loads(answer.split("\r\n\r\n")[1])["status"] == status


# --- frames

_OPCODES = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
_BODIES = st.one_of(
    st.binary(max_size=200), st.text(max_size=60).map(lambda one: one.encode("utf-8", "surrogatepass")),
    st.integers(4_000, 70_000).map(lambda size: b"x" * size),
)  # fmt: skip
_CLOSES = st.one_of(
    st.just(b""),
    st.binary(max_size=3),
    st.tuples(st.integers(0, 65_535), st.binary(max_size=130)).map(lambda one: one[0].to_bytes(2, "big") + one[1]),
)


def _frame(opcode: int, body: bytes, fin: bool, flags: int, masked: bool) -> bytes:
    """A frame as bytes, also such as no library writes."""
    head = bytes([(0x80 if fin else 0) | flags | opcode])
    mark = 0x80 if masked else 0
    if len(body) < 126:
        head += bytes([mark | len(body)])
    elif len(body) < 65_536:
        head += bytes([mark | 126]) + len(body).to_bytes(2, "big")
    else:
        head += bytes([mark | 127]) + len(body).to_bytes(8, "big")
    if not masked:
        return head + body
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(one ^ key[at % 4] for at, one in enumerate(body))


_SENT = st.one_of(
    st.builds(_frame, _OPCODES, _BODIES, st.booleans(), st.just(0), st.just(True)),
    st.builds(_frame, st.just(8), _CLOSES, st.just(True), st.just(0), st.just(True)),
    st.builds(
        _frame, st.integers(0, 15), _BODIES, st.booleans(), st.sampled_from([0, 0x10, 0x40, 0x70]), st.booleans()
    ),
    st.binary(min_size=1, max_size=60),
)


def _opened(url: str, query: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)), 20)
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /v1/stream?{query} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return raw


def _read_to_the_end(raw: socket.socket, seconds: float) -> int | None:
    """Read frames until the server ends the connection; its close code, None without one."""
    raw.settimeout(seconds)
    data = b""
    with contextlib.suppress(ConnectionError):  # reset: what we sent was not read to its end
        while part := raw.recv(65_536):
            data += part
    at, code = 0, None
    while at + 2 <= len(data):
        opcode, length = data[at] & 15, data[at + 1] & 127
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if opcode == Opcode.CLOSE:
            code = int.from_bytes(data[at : at + 2], "big") if length else 1005
        at += length
    return code


@given(st.lists(_SENT, min_size=1, max_size=6), st.sampled_from([GOOD, f"{GOOD}&kind=bars&from=2026-11-01T13:00:00Z"]))
@FUZZED
def test_any_frames_end_with_a_documented_code(served: Served, sent: list[bytes], query: str) -> None:
    with _opened(served.url, query) as raw:
        with contextlib.suppress(OSError):  # the server has ended it already
            for one in sent:
                raw.sendall(one)
            raw.sendall(Frame(Opcode.CLOSE, (1000).to_bytes(2, "big")).serialize(mask=True))
            raw.shutdown(socket.SHUT_WR)
        code = _read_to_the_end(raw, 30)
    # A connection that ends within a frame, or in one that takes ours as its body, has no code.
    assert code is None or code in CODES or 3000 <= code < 5000 or code in (1001, 1003, 1005, 1010, 1011), code


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (_frame(1, b"\xff\xfe", True, 0, True), 1007),
        (_frame(1, b"x" * 5_000, True, 0, True), 1009),
        (_frame(2, b"x" * 70_000, True, 0, True), 1009),
        (_frame(1, b"not masked", True, 0, False), 1002),
        (_frame(3, b"", True, 0, True), 1002),
        (_frame(9, b"x" * 126, True, 0, True), 1002),
        (_frame(8, b"\x03", True, 0, True), 1002),
        (_frame(8, (1000).to_bytes(2, "big") + b"bye", True, 0, True), 1000),
    ],
)
def test_each_breach_has_its_code(served: Served, frame: bytes, code: int) -> None:
    with _opened(served.url, GOOD) as raw:
        raw.sendall(frame)
        assert _read_to_the_end(raw, 30) == code


def test_what_a_client_says_means_nothing(served: Served) -> None:
    with connect(f"{served.url.replace('http', 'ws')}/v1/stream?{GOOD}", open_timeout=20) as client:
        assert json.loads(client.recv(timeout=20)) == {"type": "live"}
        for said in ("hello", b"\x00\xff" * 100, "{}", ""):
            client.send(said)
        assert client.ping().wait(20)
