"""Past and present over one WebSocket: real Kafka, a lake that has read a part of it, every trade once."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from lakehouse.serving import fan_out
from lakehouse.serving.guard import Limits
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_CONTINUITY
from tests.prices.test_follower import trade, until
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import running
from tests.support.market_lake import put
from tests.support.rows import utc
from tests.support.stream_world import NOON, World

pytestmark = pytest.mark.kafka


@pytest.fixture
def world(kafka_settings: Settings) -> World:
    return World(kafka_settings)


@pytest.fixture
def server(world: World) -> Iterator[str]:
    with running(world.settings, UNLIMITED) as url:
        yield url.replace("http", "ws")


def opened(server: str, query: str) -> ClientConnection:
    return connect(f"{server}/v1/stream?venue=binance&symbol=BTC/USDT&{query}", open_timeout=20, max_size=None)


def at(number: int) -> str:
    """The time of a trade, as text."""
    return utc(NOON + number * 1_000_000).isoformat().replace("+00:00", "Z")


def taken(socket: ClientConnection, ids: set[int], seconds: float = 60) -> list[int]:
    """Ids in the order in which they came, until all of `ids` have."""
    got: list[int] = []
    deadline = time.monotonic() + seconds
    while not ids <= {*got}:
        message = json.loads(socket.recv(timeout=max(0.1, deadline - time.monotonic())))
        got += [row["trade_id"] for row in message.get("rows", ())]
    return got


def closed_with(socket: ClientConnection, seconds: float = 20) -> int:
    """Read on until the server closes; the code of it."""
    try:
        while True:
            socket.recv(timeout=seconds)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def test_past_and_present_without_a_gap_or_a_repeat(world: World, server: str) -> None:
    world.send(*range(1, 400), 7, 8, 399)  # some twice
    world.send(5, symbol="ETH/USDT")
    world.land()
    world.send(*range(400, 600), 100)  # the lake has not read these
    with opened(server, f"from={at(0)}") as socket:
        assert taken(socket, {*range(1, 600)}) == [*range(1, 600)]
        world.send(*range(605, 700), 650, 3)
        world.send(*range(600, 605))  # repaired
        world.send(700)
        assert taken(socket, {*range(600, 701)}) == [*range(600, 701)]


def test_any_seam(world: World, server: str) -> None:
    rng = random.Random(3)
    number = 1
    world.land()
    for _ in range(12):
        count = rng.randint(1, 60)
        world.send(*range(number, number + count), *(rng.randint(1, number) for _ in range(5)))
        number += count
        if rng.random() < 0.6:
            world.land()
        start = rng.randint(1, number - 1)
        with opened(server, f"from={at(start)}") as socket:
            assert taken(socket, {*range(start, number)}) == [*range(start, number)]


def test_a_client_that_comes_before_kafka_is_read(world: World) -> None:
    world.send(*range(1, 50))
    world.land()
    world.send(*range(50, 90))
    with running(world.settings, UNLIMITED) as url, opened(url.replace("http", "ws"), f"from={at(1)}") as socket:
        assert taken(socket, {*range(1, 90)}, seconds=30) == [*range(1, 90)]


def test_a_lake_that_is_too_far_behind_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "KEPT_MESSAGES", 20)
    world.send(*range(1, 101))
    world.land()
    with running(world.settings, UNLIMITED) as url:
        world.send(*range(101, 301))
        time.sleep(2.0)  # now the server remembers the last 20 only
        with opened(url.replace("http", "ws"), f"from={at(1)}") as socket:
            assert taken(socket, {*range(1, 101)}) == [*range(1, 101)]
            with pytest.raises(TimeoutError):
                socket.recv(timeout=3)
            world.land()
            assert taken(socket, {*range(101, 301)}) == [*range(101, 301)]


def test_live_only_begins_with_what_comes(world: World, server: str) -> None:
    world.send(*range(1, 50))
    world.land()
    price = f"{server.replace('ws', 'http')}/v1/price"  # a server that has just begun reads what was there before
    until(lambda: [row["trade_id"] for row in httpx.get(price).json()["rows"]] == [49])
    with opened(server, "") as socket:
        assert json.loads(socket.recv(timeout=30)) == {"type": "live"}
        world.send(*range(50, 80), 60, 12)
        assert taken(socket, {*range(70, 80)}) == [*range(50, 80)]


def told(socket: ClientConnection, last: int) -> list[Any]:
    """Read what comes up to an id: ids of trades, (first, last) of gaps, negative ids of late ones."""
    found: list[Any] = []
    while last not in found and -last not in found:
        message = json.loads(socket.recv(timeout=30))
        if message["type"] == "gap":
            found.append((message["first_id"], message["last_id"]))
            assert message["unavailable"] is False
        sign = -1 if message["type"] == "late" else 1
        found += [sign * row["trade_id"] for row in message.get("rows", ())]
    return found


def test_a_gap_is_waited_for_then_told_and_what_comes_of_it_is_late(world: World, server: str) -> None:
    world.send(*range(1, 50), 52, 53)
    world.land()
    with opened(server, f"from={at(48)}&hold=3") as socket:
        assert told(socket, 53) == [48, 49, (50, 51), 52, 53]  # by the times in the lake it is an old one
        world.send(54)
        assert told(socket, 54) == [54]
        began = time.monotonic()
        world.send(58)
        assert told(socket, 58) == [(55, 57), 58]
        assert 2 < time.monotonic() - began < 20
        world.send(56, 51, 56, 51, 59)
        assert sorted(taken(socket, {51, 56, 59})) == [51, 56, 59]
        world.send(55, 55)
        assert told(socket, 55) == [-55]


def test_ids_that_the_venue_does_not_have_are_not_waited_for(world: World, server: str) -> None:
    row = {"venue": "binance", "symbol": "BTC/USDT", "since": utc(NOON), "tries": 1, "last_try": utc(NOON)}
    times = {"ts_first": utc(NOON), "ts_last": utc(NOON), "repaired": 0, "trades_version": 1}
    gone = row | times | {"first_id": 60, "last_id": 64, "state": "unavailable"}
    put(world.settings, SILVER_CONTINUITY, [gone])
    world.send(*range(1, 50))
    world.land()
    with opened(server, f"from={at(40)}&hold=300") as socket:
        assert taken(socket, {*range(40, 50)}) == [*range(40, 50)]
        world.send(*range(50, 60), *range(65, 70))
        assert taken(socket, {*range(65, 70)}, seconds=20) == [*range(50, 60), *range(65, 70)]


@pytest.mark.parametrize("landed", [True, False])
def test_a_client_that_was_cut_goes_on_where_it_was(world: World, server: str, landed: bool) -> None:
    world.send(*range(1, 50), *range(53, 60))
    world.land()
    world.send(*range(60, 70), 51)
    if landed:
        world.land()
    with opened(server, f"from={at(55)}&after=57&missing=50-52") as socket:
        assert sorted(taken(socket, {51, *range(58, 70)})) == [51, *range(58, 70)]
        world.send(50, 51, 52, 57, 70)
        assert sorted(taken(socket, {50, 52, 70})) == [50, 52, 70]


def test_what_silver_refuses_is_not_sent(world: World, server: str) -> None:
    world.send(*range(1, 50))
    world.land()
    producer = Producer({"bootstrap.servers": world.settings.bootstrap()})
    with opened(server, f"from={at(40)}") as socket:
        assert taken(socket, {*range(40, 50)}) == [*range(40, 50)]
        for wrong in ({"price": "-1"}, {"size": "0"}, {"ts_event": 4_070_908_800_000_000}, {"side": "both"}):
            fields = {"ts_event": NOON, "price": "100.5"} | wrong
            value = json.loads(trade(50)) | fields
            producer.produce(world.settings.topic_trades, json.dumps(value).encode(), key=b"k", partition=2)
            world.ends[2] += 1
        assert producer.flush(30) == 0
        world.send(50, 51)
        rows: list[Any] = []
        while len(rows) < 2:
            rows += json.loads(socket.recv(timeout=30)).get("rows", ())
        assert [(row["trade_id"], row["price"], row["side"]) for row in rows] == [
            (50, "100.5", "buy"),
            (51, "100.5", "buy"),
        ]


def test_an_end_is_a_replay_at_a_speed(world: World, server: str) -> None:
    world.send(*range(1, 1_300))
    world.land()
    began = time.monotonic()
    with opened(server, f"from={at(10)}&to={at(1_210)}&speed=200") as socket:
        assert taken(socket, {*range(10, 1_210)}) == [*range(10, 1_210)]
        assert 4 < time.monotonic() - began < 30  # 1,200 s of the past, the last 200 of them in one message
        assert closed_with(socket) == 1000


def test_a_slow_client_is_told_and_cut(world: World, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "MOST_PENDING", 50)
    world.send(1)
    world.land()
    with opened(server, "") as socket:
        assert json.loads(socket.recv(timeout=30)) == {"type": "live"}
        for round_ in range(60):
            world.send(*range(2 + round_ * 500, 502 + round_ * 500))
        assert closed_with(socket) == 1013


def test_bars_of_the_past(url: str) -> None:
    query = "venue=kraken&symbol=ETH/USD&kind=bars&size=5m&from=2026-11-01T13:00:00Z"
    with connect(f"{url.replace('http', 'ws')}/v1/stream?{query}", open_timeout=20) as socket:
        message = json.loads(socket.recv(timeout=20))
        assert message["type"] == "bars"
        assert message["rows"][0]["bar_start"] >= "2026-11-01T13:00:00Z"
        while message["type"] == "bars":
            message = json.loads(socket.recv(timeout=20))
        assert message == {"type": "live"}


def test_limits_of_sockets(world: World) -> None:
    with running(world.settings, Limits(sockets=1, rate=1e9, burst=10**9)) as url:
        server = url.replace("http", "ws")
        with opened(server, "") as first:
            assert json.loads(first.recv(timeout=30)) == {"type": "live"}
            with pytest.raises(InvalidStatus):
                opened(server, "")


def test_a_key_is_asked_for(world: World) -> None:
    settings = world.settings.model_copy(update={"api_key": SecretStr("0123456789abcdef")})
    with running(settings, UNLIMITED) as url:
        server = url.replace("http", "ws")
        with pytest.raises(InvalidStatus):
            opened(server, "")
        path = f"{server}/v1/stream?venue=binance&symbol=BTC/USDT"
        with connect(path, additional_headers={"X-API-Key": "0123456789abcdef"}) as socket:
            assert json.loads(socket.recv(timeout=30)) == {"type": "live"}
        key = base64.urlsafe_b64encode(b"0123456789abcdef").decode().rstrip("=")
        names = [Subprotocol(name) for name in ("lakehouse", f"lakehouse.key.{key}")]
        with connect(path, subprotocols=names) as socket:  # as a page does, which can set no other header
            assert socket.subprotocol == "lakehouse"
            assert json.loads(socket.recv(timeout=30)) == {"type": "live"}


def test_a_page_elsewhere_gets_no_stream(url: str) -> None:
    path = f"{url.replace('http', 'ws')}/v1/stream?venue=kraken&symbol=ETH/USD&kind=bars"
    with pytest.raises(InvalidStatus):
        connect(path, origin=Origin("http://evil.example"))
    with connect(path, origin=Origin(url), subprotocols=[Subprotocol("lakehouse")]) as socket:
        assert json.loads(socket.recv(timeout=30)) == {"type": "live"}
