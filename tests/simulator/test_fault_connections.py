"""Faults of connections: silence, worthless subscriptions, missing pongs, and cuts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from lakehouse.settings import VENUES
from lakehouse.simulator.timings import Timings
from tests.support.fault_clients import (
    TIMINGS,
    ends_without_a_close_frame,
    exchange,
    flows,
    hears,
    is_heartbeat,
    listening,
)
from tests.support.simulator_support import (
    SYMBOL,
    WS_PATHS,
    Client,
    Pool,
    begin,
    client,
    done,
    end_faults,
    subscribe,
    trades_of,
    until,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("pool"), timings=TIMINGS) as pool:
        yield pool


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("kind", ["silent", "mute"])
def test_silence_with_pongs(pool: Pool, venue: str, kind: str) -> None:
    with pool.lend(venue) as server, listening(server, venue) as ws:
        hears(venue, ws)
        begin(server, kind, seconds=60)
        ws.listen(0.1)  # what was under way
        count = server.record.count(venue, SYMBOL)
        messages = ws.listen(0.4)
        assert not any(trades_of(venue, message) for message in messages)
        assert any(map(is_heartbeat, messages)) == (kind == "mute" and venue != "binance")
        assert server.record.count(venue, SYMBOL) > count
        # The connection lives: a ping has its pong, and with the fault's end the trades come again.
        ws.socket.ping("still there?")
        assert pong(ws) == b"still there?"
        assert end_faults(server) == 1
        hears(venue, ws)
        assert done(server, kind) > 0


def pong(ws: Client, seconds: float = 5.0) -> bytes | None:
    """The payload of the next pong; None if none comes."""
    deadline = time.monotonic() + seconds
    ws.socket.settimeout(0.1)
    while time.monotonic() < deadline:
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            frame = ws.frame()
            if frame.opcode == websocket.ABNF.OPCODE_PONG:
                ws.socket.settimeout(5)
                return bytes(frame.data)
    ws.socket.settimeout(5)
    return None


def test_silence_of_the_open_connections_only(pool: Pool) -> None:
    with pool.lend("binance") as server, listening(server, "binance") as ws:
        hears("binance", ws)
        begin(server, "silent", seconds=60, open_only=True)
        ws.drain(0.1)
        flows("binance", server)
        assert ws.drain(0.1) == []


@pytest.mark.parametrize("venue", VENUES)
def test_an_acknowledged_subscription_that_brings_nothing(pool: Pool, venue: str) -> None:
    with pool.lend(venue) as server:
        flows(venue, server)
        begin(server, "ack_silent", seconds=60)
        path = WS_PATHS[venue] if venue != "binance" else "/binance/ws"
        with client(server, path) as ws:
            if venue == "binance":
                ws.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
                ws.until(lambda message: message == {"result": None, "id": 1})
            else:
                subscribe(ws, venue, snapshot=True)
                acknowledged = {"kraken": '"success":true', "coinbase": '"subscriptions"'}[venue]
                while acknowledged not in ws.raw():
                    pass
            count = server.record.count(venue, SYMBOL)
            until(lambda: server.record.count(venue, SYMBOL) > count + 20)
            begin(server, "drop", share=1e-9, seconds=0.05)  # the end of another fault heals nothing
            until(lambda: server.status()["faults"]["active"] == 1)
            assert not any(trades_of(venue, message) for message in ws.listen(0.1))
            assert done(server, "ack_silent") == 1
            end_faults(server)
            hears(venue, ws)


def test_ack_silent_lasts_as_long_as_its_connection(pool: Pool) -> None:
    with pool.lend("binance") as server:
        begin(server, "ack_silent", seconds=0.3)
        with listening(server, "binance") as ws:
            until(lambda: server.status()["faults"]["active"] == 0)
            assert ws.drain(0.2) == []
            flows("binance", server)
            assert ws.drain(0.1) == []
            ws.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})  # once more is as good as any
            hears("binance", ws)


def test_no_pong(pool: Pool) -> None:
    with pool.lend("kraken") as server, listening(server, "kraken") as ws:
        begin(server, "no_pong", seconds=60)
        ws.socket.ping("hello?")
        assert pong(ws, 0.3) is None
        ws.send({"method": "ping", "req_id": 7})
        hears("kraken", ws)
        assert not any(message.get("method") == "pong" for message in (ws.receive() for _ in range(20)))
        until(lambda: done(server, "no_pong") == 2)
        end_faults(server)
        ws.send({"method": "ping", "req_id": 8})
        assert ws.until(lambda message: message.get("method") == "pong")["req_id"] == 8
        ws.socket.ping("and now?")
        assert pong(ws) == b"and now?"


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(("kind", "code"), [("cut_1006", 1006), ("cut_1008", 1008), ("day_end", 1001)])
def test_cuts(pool: Pool, venue: str, kind: str, code: int) -> None:
    with pool.lend(venue) as server, listening(server, venue) as ws, listening(server, venue) as other:
        hears(venue, ws)
        hears(venue, other)
        begin(server, kind, venue=venue)
        assert server.status()["connections"] == {venue: 0}  # at once
        if code == 1006:
            assert ends_without_a_close_frame(ws)
        else:
            assert ws.closed_with()[0] == code
        assert done(server, kind) == 2
        flows(venue, server)  # a new one is not cut


def test_a_cut_of_some_connections(tmp_path: Path) -> None:
    with exchange(tmp_path, "binance", seed=3) as server, contextlib.ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(listening(server, "binance"))
        until(lambda: server.status()["connections"] == {"binance": 20})
        begin(server, "cut_1006", share=0.5)
        left = server.status()["connections"]["binance"]
        assert 4 <= left <= 16
        until(lambda: server.status()["faults"]["active"] == 0)
        assert server.status()["connections"]["binance"] == left
        assert done(server, "cut_1006") == 20 - left


@pytest.mark.parametrize("venue", VENUES)
def test_server_shutdown(pool: Pool, venue: str) -> None:
    with pool.lend(venue) as server, listening(server, venue) as ws:
        hears(venue, ws)
        began = time.monotonic()
        begin(server, "server_shutdown", delay=0.5)
        if venue == "binance":
            notice = ws.until(lambda message: message.get("e") == "serverShutdown")
            assert abs(notice["E"] / 1000 - time.time()) < 5
        elif venue == "kraken":
            notice = ws.until(lambda message: message.get("channel") == "status")
            if notice["data"][0]["system"] == "online":
                notice = ws.until(lambda message: message.get("channel") == "status")
            assert notice["data"][0]["system"] == "maintenance"
        hears(venue, ws)  # trades go on until the end
        flows(venue, server)
        assert ws.closed_with()[0] == 1001
        assert time.monotonic() - began >= 0.5
        assert done(server, "server_shutdown") == 1


def test_the_day_of_a_connection_ends(tmp_path: Path) -> None:
    with exchange(tmp_path, "binance", timings=Timings(day=0.3)) as server, listening(server, "binance") as ws:
        assert ws.closed_with() == (1001, "going away")
