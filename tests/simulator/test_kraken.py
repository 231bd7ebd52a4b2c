"""Kraken's protocol as the simulator speaks it, over a real socket, against the record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import NO_LIMITS, client, get, kraken_trade, micros, running, truth


def subscription(*symbols: str, snapshot: bool = True, **extra: Any) -> dict[str, Any]:
    params = {"channel": "trade", "symbol": list(symbols), "snapshot": snapshot}
    return {"method": "subscribe", "params": params, **extra}


def is_trade(message: Any) -> bool:
    return bool(message.get("channel") == "trade")


def test_the_whole_conversation(tmp_path: Path) -> None:
    with running(tmp_path, venues=("kraken",)) as server, client(server, "/kraken/v2") as ws:
        status = ws.receive()
        assert status["channel"] == "status"
        assert 2**63 <= status["data"][0]["connection_id"] < 2**64
        ws.send(subscription("BTC/USDT", "ETH/USDT", "XDG/USD", req_id=7))
        messages: list[Any] = []
        while sum(len(m["data"]) for m in messages if is_trade(m)) < 300:
            messages.append(ws.receive())
        server.pause()
        messages += ws.drain()
        replies = [m for m in messages if m.get("method") == "subscribe"]
        for symbol, reply in zip(("BTC/USDT", "ETH/USDT"), replies, strict=False):
            assert reply["result"] == {"channel": "trade", "symbol": symbol, "snapshot": True}
            assert reply["success"] is True
            assert reply["req_id"] == 7
            assert micros(reply["time_out"]) >= micros(reply["time_in"])
        refused = replies[2]
        assert refused["error"] == "Currency pair not supported XDG/USD"
        assert refused["success"] is False
        assert refused["symbol"] == "XDG/USD"
        # A market opens with an empty snapshot; from there on it is the record, trade by trade.
        assert [m["type"] for m in messages if is_trade(m)][:2] == ["snapshot", "snapshot"]
        for symbol in ("BTC/USDT", "ETH/USDT"):
            data = [one for m in messages if is_trade(m) for one in m["data"] if one["symbol"] == symbol]
            assert [kraken_trade(one) for one in data] == truth(server.record, "kraken", symbol)
        assert max(len(m["data"]) for m in messages if is_trade(m)) > 1


def test_prices_are_json_numbers_with_all_digits(server: SimulatorServer) -> None:
    with client(server, "/kraken/v2") as ws:
        ws.send(subscription("BTC/USDT", snapshot=False))
        text = ""
        while '"type":"update"' not in text or "trade_id" not in text:
            text = ws.raw()
        assert re.search(r'"price":\d+\.\d,"qty":\d+\.\d{8},"ord_type":"(limit|market)"', text)


def test_snapshot_is_the_last_fifty(server: SimulatorServer) -> None:
    with client(server, "/kraken/v2") as ws, client(server, "/kraken/v2") as late:
        ws.send(subscription("ETH/USDT"))
        seen = 0
        while seen < 120:
            message = ws.receive()
            seen += len(message["data"]) if is_trade(message) else 0
        late.send(subscription("ETH/USDT"))
        snapshot = late.until(is_trade)
        assert snapshot["type"] == "snapshot"
        update = late.until(is_trade)
        assert len(snapshot["data"]) == 50
        assert update["data"][0]["trade_id"] == snapshot["data"][-1]["trade_id"] + 1
        late.send({"method": "unsubscribe", "params": {"channel": "trade", "symbol": ["ETH/USDT"]}})
        late.until(lambda message: message.get("method") == "unsubscribe" and message["success"])
        assert not any(is_trade(message) for message in late.drain(0.2))


def test_heartbeat_ping_and_errors(server: SimulatorServer) -> None:
    with client(server, "/kraken/v2") as ws:
        ws.send({"method": "ping", "req_id": 101})
        pong = ws.until(lambda message: message.get("method") == "pong")
        assert pong["req_id"] == 101
        ws.send("nonsense")
        assert ws.until(lambda message: "error" in message)["success"] is False
        ws.send({"method": "dance"})
        assert ws.until(lambda message: "error" in message)["error"] == "Unsupported method"
        ws.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USDT"]}})
        assert ws.until(lambda message: "error" in message)["method"] == "subscribe"
        assert ws.until(lambda message: message == {"channel": "heartbeat"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(
        tmp_path_factory.mktemp("kraken"), symbols=("BTC/USDT", "ETH/USDT", "BTC/USD"), rate=2000.0, limits=NO_LIMITS
    ) as server:
        yield server


def test_rest_pages_are_the_record_though_they_end_inside_a_timestamp(tmp_path: Path) -> None:
    options = {"venues": ("kraken",), "symbols": ("BTC/USDT",), "rate": 4000.0, "limits": NO_LIMITS}
    with running(tmp_path, **options) as server:
        url = f"{server.url}/kraken/0/public/Trades"
        assert get(f"{url}?pair=XBTUSDT").json() == {"error": [], "result": {"XBTUSDT": [], "last": "0"}}
        with client(server, "/kraken/v2") as ws:
            ws.send(subscription("BTC/USDT"))
            first = ws.until(lambda message: is_trade(message) and message["data"])["data"][0]["trade_id"]
            ws.until(lambda message: is_trade(message) and message["data"][-1]["trade_id"] > first + 2500)
        server.pause()
        true = truth(server.record, "kraken", "BTC/USDT")
        rows: dict[int, Any] = {}
        since, split, last = 0, False, [0] * 7
        while len(rows) < len(true):
            result = get(f"{url}?pair=XBTUSDT&since={since}&count=100").json()["result"]
            page = result["XBTUSDT"]
            split |= any(row[2] == last[2] and row[6] > last[6] for row in page)
            last = page[-1]
            rows |= {row[6]: row for row in page}
            since = int(result["last"]) - 1  # from just before: the page may have ended inside this timestamp
        assert split
        got = [(i, r[0].rstrip("0"), r[1], r[3]) for i, r in sorted(rows.items())]
        assert got == [(t.trade_id, f"{t.price:f}".rstrip("0"), f"{t.size:f}", t.side[0]) for t in true]
        assert [round(rows[t.trade_id][2] * 1e6) for t in true] == [t.ts_event for t in true]
        newest = get(f"{url}?pair=XBTUSDT&count=3").json()["result"]["XBTUSDT"]
        assert [row[6] for row in newest] == [t.trade_id for t in true[-3:]]


def test_rest_names(server: SimulatorServer) -> None:
    def ask(pair: str, more: str = "") -> Any:
        reply = get(f"{server.url}/kraken/0/public/Trades?pair={pair}{more}")
        assert reply.status_code == 200
        return reply.json()

    for pair in ("XBTUSD", "BTC/USD", "XXBTZUSD", "BTCUSD"):
        assert set(ask(pair)["result"]) == {"XXBTZUSD", "last"}
    assert ask("NOPE") == {"error": ["EQuery:Unknown asset pair"]}
    assert ask("XBTUSD", "&since=x") == {"error": ["EGeneral:Invalid arguments"]}
