"""Coinbase's protocol as the simulator speaks it, over a real socket, against the record."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from lakehouse.simulator.server import SimulatorServer
from lakehouse.simulator.timings import Timings
from tests.support.simulator_support import client, coinbase_trade, get, running, truth

BOTH = {"type": "subscribe", "product_ids": ["BTC-USDT", "ETH-USDT"], "channels": ["matches", "heartbeat"]}


def is_match(message: Any) -> bool:
    return bool(message["type"] == "match")


def test_matches_are_the_record_with_the_maker_side(tmp_path: Path) -> None:
    timings = Timings(heartbeat=0.2)
    with running(tmp_path, venues=("coinbase",), timings=timings) as server, client(server, "/coinbase") as ws:
        ws.send(BOTH)
        products = ["BTC-USDT", "ETH-USDT"]
        channels = [{"name": "matches", "product_ids": products}, {"name": "heartbeat", "product_ids": products}]
        assert ws.receive() == {"type": "subscriptions", "channels": channels}
        messages = [ws.receive() for _ in range(300)]
        server.pause()
        # Heartbeats go on while nobody trades, and name the newest trade.
        newest: dict[str, int] = {}
        while len(newest) < 2:
            message = ws.receive()
            messages.append(message)
            if message["type"] == "heartbeat":
                record = truth(server.record, "coinbase", message["product_id"].replace("-", "/"))
                if message["last_trade_id"] == record[-1].trade_id:
                    newest[message["product_id"]] = message["last_trade_id"]
        for symbol in ("BTC/USDT", "ETH/USDT"):
            mine = [m for m in messages if is_match(m) and m["product_id"] == symbol.replace("/", "-")]
            assert [coinbase_trade(m) for m in mine] == truth(server.record, "coinbase", symbol)
            steps = {later["sequence"] - one["sequence"] for one, later in itertools.pairwise(mine)}
            assert min(steps) >= 1
            assert max(steps) > 1
            assert all(m["maker_order_id"] != m["taker_order_id"] for m in mine)
            assert not any(m["size"].endswith("0") and "." in m["size"] for m in mine)


def test_last_match_of_a_market_that_has_traded(server: SimulatorServer) -> None:
    with client(server, "/coinbase") as ws, client(server, "/coinbase") as late:
        ws.send(BOTH)
        for product in BOTH["product_ids"]:
            ws.until(lambda message, product=product: is_match(message) and message["product_id"] == product)  # type: ignore[misc]
        late.send(BOTH)
        messages = [late.receive() for _ in range(40)]
        assert [m["type"] for m in messages[:3]] == ["last_match", "last_match", "subscriptions"]
        for last in messages[:2]:
            following = [m for m in messages if is_match(m) and m["product_id"] == last["product_id"]]
            assert following[0]["trade_id"] == last["trade_id"] + 1
        late.send({**BOTH, "type": "unsubscribe"})
        assert late.until(lambda message: message["type"] == "subscriptions") == {
            "type": "subscriptions",
            "channels": [],
        }
        assert late.drain(0.2) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({**BOTH, "product_ids": ["BTC-USDT", "X"]}, "X is not a valid product"),
        ({**BOTH, "channels": ["tea"]}, "tea is not a valid channel"),
        ({**BOTH, "channels": []}, "no channels provided"),
        ({"type": "sing"}, "sing is not a valid type"),
        ("{", "Malformed JSON"),
    ],
)
def test_errors(server: SimulatorServer, message: Any, reason: str) -> None:
    with client(server, "/coinbase") as ws:
        ws.send(message)
        error = ws.receive()
        assert (error["type"], error["reason"]) == ("error", reason)
        assert ws.drain(0.1) == []  # a subscription fails as a whole


def test_closed_without_a_subscription(tmp_path: Path) -> None:
    with running(tmp_path, timings=Timings(subscribe=0.3)) as server, client(server, "/coinbase") as ws:
        assert ws.receive()["type"] == "error"
        assert ws.closed_with()[0] == 1008


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("coinbase")) as server:
        yield server


def test_rest_walks_down_through_the_record(tmp_path: Path) -> None:
    with running(tmp_path, venues=("coinbase",), symbols=("BTC/USDT",), rate=4000.0) as server:
        url = f"{server.url}/coinbase/products/BTC-USDT/trades"
        assert get(url).json() == []
        with client(server, "/coinbase") as ws:
            ws.send({**BOTH, "product_ids": ["BTC-USDT"], "channels": ["matches"]})
            first = ws.until(is_match)["trade_id"]
            ws.until(lambda message: message["trade_id"] > first + 2500)
        server.pause()
        true = truth(server.record, "coinbase", "BTC/USDT")
        rows: list[Any] = []
        after = ""
        while not rows or rows[-1]["trade_id"] > first:
            reply = get(f"{url}?limit=1000{after}")
            rows += reply.json()
            assert reply.headers["CB-AFTER"] == str(rows[-1]["trade_id"])
            after = f"&after={rows[-1]['trade_id']}"
        assert [coinbase_trade({**row, "product_id": "BTC-USDT"}) for row in reversed(rows)] == true
        middle = true[1000].trade_id
        some = get(f"{url}?after={middle}&before={middle - 4}").json()
        assert [row["trade_id"] for row in some] == [middle - 1, middle - 2, middle - 3]
        assert get(f"{url}?after={first}").json() == []


def test_rest_errors(server: SimulatorServer) -> None:
    base = f"{server.url}/coinbase/products"
    assert get(f"{base}/NO-PE/trades").status_code == 404
    assert get(f"{base}/BTC-USDT/trades?after=x").status_code == 400
