"""Binance's protocol as the simulator speaks it, over a real socket, against the record."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
import websocket

from lakehouse.simulator.server import SimulatorServer
from lakehouse.simulator.timings import Timings
from tests.support.simulator_support import binance_trade, client, get, running, truth

TWO = "/binance/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND"


def symbol_of(native: str) -> str:
    return native.removesuffix("USDT") + "/USDT"


def test_combined_stream_is_the_record(tmp_path: Path) -> None:
    with running(tmp_path, venues=("binance",)) as server, client(server, TWO) as ws:
        messages = [ws.receive() for _ in range(400)]
        server.pause()
        messages += ws.drain()
        for symbol in ("BTC/USDT", "ETH/USDT"):
            name = symbol.replace("/", "")
            mine = [m["data"] for m in messages if m["stream"] == f"{name.lower()}@trade"]
            assert [binance_trade(data, symbol) for data in mine] == truth(server.record, "binance", symbol)
            assert all(data["e"] == "trade" and data["s"] == name and data["E"] >= data["T"] for data in mine)
            assert all(data["p"][-9] == "." for data in mine)
        # Nobody asked for the third symbol: its market has not opened.
        assert server.record.keys() == [("binance", "BTC/USDT"), ("binance", "ETH/USDT")]


def test_raw_stream_in_milliseconds(tmp_path: Path) -> None:
    with running(tmp_path) as server, client(server, "/binance/ws/btcusdt@trade") as ws:
        data = ws.receive()
        true = truth(server.record, "binance", "BTC/USDT")[0]
        assert binance_trade(data, "BTC/USDT") == true._replace(ts_event=true.ts_event // 1000)


def test_subscribe_list_unsubscribe(tmp_path: Path) -> None:
    with running(tmp_path) as server, client(server, "/binance/stream") as ws:
        ws.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nopeusdt@trade", "ethusdt@aggTrade"], "id": 1})
        assert ws.receive() == {"result": None, "id": 1}
        assert ws.receive()["stream"] == "btcusdt@trade"
        ws.send({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        listed = ws.until(lambda message: message.get("id") == 2)
        assert listed["result"] == ["btcusdt@trade", "nopeusdt@trade", "ethusdt@aggTrade"]
        ws.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 3})
        ws.until(lambda message: message.get("id") == 3)
        assert ws.drain(0.2) == []  # the unknown and the aggTrade stream are acknowledged and silent
        assert server.record.keys() == [("binance", "BTC/USDT")]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 3),
        ("[1]", 2),
        ({"id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": 7, "id": 1}, 2),
        ({"method": "JUMP", "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": [7], "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": -1}, 2),
        ({"method": "SUBSCRIBE", "params": [f"a{n}usdt@trade" for n in range(1025)], "id": 1}, 2),
    ],
)
def test_errors(server: SimulatorServer, sent: Any, code: int) -> None:
    with client(server, "/binance/stream") as ws:
        ws.send(sent)
        error = ws.receive()
        assert error["code"] == code
        assert error["msg"].startswith({2: "Invalid request: ", 3: "Invalid JSON: "}[code])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("binance")) as server:
        yield server


def test_too_many_messages_a_second(server: SimulatorServer) -> None:
    with client(server, "/binance/stream") as ws:
        for number in range(6):
            ws.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        assert ws.closed_with()[0] == 1008


def test_cut_without_a_pong_alive_with_it(tmp_path: Path) -> None:
    timings = Timings(ping=0.3, pong=0.5)
    with (
        running(tmp_path, timings=timings) as server,
        client(server, "/binance/ws") as answering,
        client(server, "/binance/ws") as mute,
    ):
        answering.socket.settimeout(0.05)
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            with contextlib.suppress(websocket.WebSocketTimeoutException):
                answering.socket.recv_data(control_frame=True)  # the library answers the pings
        frame = mute.frame()
        assert frame.opcode == websocket.ABNF.OPCODE_PING
        assert frame.data.isdigit()
        assert mute.closed_with() == (1008, "Pong timeout")
        answering.socket.settimeout(5)
        answering.send({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        assert answering.receive() == {"result": [], "id": 1}


def test_a_pong_with_another_payload_does_not_count(tmp_path: Path) -> None:
    with running(tmp_path, timings=Timings(ping=0.3, pong=0.5)) as server, client(server, "/binance/ws") as ws:
        ws.frame()
        ws.socket.pong(b"not what was sent")
        assert ws.closed_with() == (1008, "Pong timeout")


def test_rest_pages_are_the_record(tmp_path: Path) -> None:
    with running(tmp_path, venues=("binance",), symbols=("BTC/USDT",), rate=4000.0) as server:
        base = f"{server.url}/binance/api/v3"
        assert get(f"{base}/trades?symbol=BTCUSDT").json() == []
        with client(server, TWO) as ws:
            first = ws.receive()["data"]["t"]
            ws.until(lambda message: message["data"]["t"] >= first + 2500)
        server.pause()
        true = truth(server.record, "binance", "BTC/USDT")
        rows: list[Any] = []
        headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
        while len(rows) < len(true):
            query = f"symbol=BTCUSDT&fromId={first + len(rows)}&limit=1000"
            page = get(f"{base}/historicalTrades?{query}", headers=headers).json()
            assert 0 < len(page) <= 1000
            rows += page
        fields = {"t": "id", "p": "price", "q": "qty", "T": "time", "m": "isBuyerMaker"}
        got = [binance_trade({short: row[name] for short, name in fields.items()}, "BTC/USDT") for row in rows]
        assert got == true
        # Below what there is: silently the first. Beyond it: nothing. Without fromId: the newest.
        old = get(f"{base}/historicalTrades?symbol=BTCUSDT&fromId=1&limit=1").json()
        assert [row["id"] for row in old] == [first]
        assert old[0]["time"] == true[0].ts_event // 1000
        assert get(f"{base}/historicalTrades?symbol=BTCUSDT&fromId={true[-1].trade_id + 1}").json() == []
        newest = get(f"{base}/trades?symbol=BTCUSDT&limit=2").json()
        assert [row["id"] for row in newest] == [true[-2].trade_id, true[-1].trade_id]
        assert len(get(f"{base}/trades?symbol=BTCUSDT").json()) == 500


@pytest.mark.parametrize(
    ("query", "code"),
    [("symbol=NOPE", -1121), ("", -1102), ("symbol=BTCUSDT&fromId=x", -1100), ("symbol=btcusdt", -1121)],
)
def test_rest_errors(server: SimulatorServer, query: str, code: int) -> None:
    reply = get(f"{server.url}/binance/api/v3/historicalTrades?{query}")
    assert (reply.status_code, reply.json()["code"]) == (400, code)
