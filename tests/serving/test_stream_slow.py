"""A client that does not read, at a server of its own: told or dropped, in bounded memory, and nobody else waits."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lakehouse.broker.ports import free_port
from lakehouse.lake.table_io import ensure_tables
from lakehouse.settings import Settings
from tests.prices.test_follower import trade, until
from tests.support.demo_tools import environment

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(300)]

#: Trades that one client does not read: some 60 MB of messages, three times what may wait for a client.
TRADES = 300_000
#: Growth of the server: the messages that are kept for all clients, and what may wait for two.
MOST_MEGABYTES = 250
STUCK = 6


@pytest.fixture
def server(kafka_settings: Settings, tmp_path: Path) -> Iterator[tuple[psutil.Process, int, Path]]:
    ensure_tables(kafka_settings)
    port, log = free_port(), tmp_path / "log"
    words = [sys.executable, "-m", "lakehouse", "serve", "--port", str(port)]
    with log.open("wb") as file:
        child = subprocess.Popen(words, env=environment(**kafka_settings.environment()), stdout=file, stderr=file)
    try:
        until(lambda: _answers(port), 60)
        yield psutil.Process(child.pid), port, log
    finally:
        child.kill()
        child.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stuck(port: int) -> socket.socket:
    """A client that asks and never reads. Its own buffer is small, as over a slow line."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /v1/stream?venue=binance&symbol=BTC/USDT HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return raw


def test_a_client_that_does_not_read_is_dropped(
    server: tuple[psutil.Process, int, Path], kafka_settings: Settings
) -> None:
    process, port, log = server
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "queue.buffering.max.messages": 50_000})
    stuck = [_stuck(port) for _ in range(STUCK)]
    url = f"ws://127.0.0.1:{port}/v1/stream?venue=binance&symbol=BTC/USDT"
    got: list[int] = []
    with connect(url, open_timeout=30, max_size=None) as reader:
        assert json.loads(reader.recv(timeout=30)) == {"type": "live"}
        time.sleep(1.0)
        before = process.memory_info().rss
        most = before
        for number in range(1, TRADES + 1):
            producer.produce(kafka_settings.topic_trades, trade(number), key=b"BTC/USDT")
            if number % 1_000 == 0:
                assert producer.flush(60) == 0
                while not got or got[-1] < number:  # one that reads is never too slow for this
                    got += [row["trade_id"] for row in json.loads(reader.recv(timeout=60)).get("rows", ())]
                most = max(most, process.memory_info().rss)
        assert got == [*range(1, TRADES + 1)]
    assert (most - before) / 1e6 < MOST_MEGABYTES
    # None of them reads, so what tells them to go is not read either: their connections must be gone all the same.
    until(lambda: _open(process, port) == 0, 90)
    for one in stuck:
        one.close()
    assert "Traceback" not in log.read_text(encoding="utf-8")


def _open(process: psutil.Process, port: int) -> int:
    return sum(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in process.net_connections("tcp"))


def test_a_client_that_reads_late_is_told(server: tuple[psutil.Process, int, Path], kafka_settings: Settings) -> None:
    _, port, _ = server
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "queue.buffering.max.messages": 200_000})
    url = f"ws://127.0.0.1:{port}/v1/stream?venue=binance&symbol=BTC/USDT"
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # else the kernel may take all 20 MB for the client
    raw.connect(("127.0.0.1", port))
    # Compressed, these trades are 0.3 MB.
    options: dict[str, Any] = {"open_timeout": 30, "max_size": None, "max_queue": 1, "ping_interval": None}
    with connect(url, sock=raw, compression=None, **options) as late:
        assert json.loads(late.recv(timeout=30)) == {"type": "live"}
        for number in range(1, 100_001):
            producer.produce(kafka_settings.topic_trades, trade(number), key=b"BTC/USDT")
        assert producer.flush(60) == 0
        time.sleep(11.0)
        ids: list[int] = []
        end: ConnectionClosed | None = None
        while end is None:
            try:
                ids += [row["trade_id"] for row in json.loads(late.recv(timeout=30)).get("rows", ())]
            except ConnectionClosed as closed:
                end = closed
    assert ids == [*range(1, len(ids) + 1)]
    assert len(ids) < 100_000
    assert end.rcvd is not None
    assert (end.rcvd.code, end.rcvd.reason) == (
        1013,
        "too slow: read faster, or ask for a shorter range",
    )
