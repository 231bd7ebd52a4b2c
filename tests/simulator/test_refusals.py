"""How the simulated venues refuse subscriptions, for now and for good, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.options import SimulatorOptions, read_delisted
from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import SYMBOL, Client, begin, client, done, get, running, subscribe, until

BOTH = {"type": "subscribe", "product_ids": ["ETH-USDT", "BTC-USDT"], "channels": ["matches", "heartbeat"]}
DELISTED = (("binance", "ETH/USDT"), ("kraken", "ETH/USDT"), ("coinbase", "ETH/USDT"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorServer]:
    with running(tmp_path_factory.mktemp("refusals"), delisted=DELISTED) as one:
        yield one


@pytest.fixture
def market(server: SimulatorServer) -> Iterator[SimulatorServer]:
    yield server
    server.end_faults()
    until(lambda: not any(server.status()["connections"].values()))


def control(ws: Client, wanted: str) -> Any:
    """The next message that has this key."""
    return ws.until(lambda message: wanted in message)


def test_a_delisted_product_fails_the_whole_request(market: SimulatorServer) -> None:
    with client(market, "/coinbase") as ws:
        ws.send(BOTH)
        words = {"type": "error", "message": "Failed to subscribe", "reason": "ETH-USDT is delisted"}
        assert ws.receive() == words
        ws.send({**BOTH, "product_ids": ["BTC-USDT", "FOO-USDT"]})
        assert ws.receive() == {**words, "reason": "FOO-USDT is not a valid product"}
        assert ws.drain(0.2) == []
        ws.send({**BOTH, "product_ids": ["BTC-USDT"]})
        assert control(ws, "channels")["channels"][0]["product_ids"] == ["BTC-USDT"]
    assert get(f"{market.url}/coinbase/products/ETH-USDT/trades").status_code == 404


def test_binance_acknowledges_what_it_does_not_have(market: SimulatorServer) -> None:
    with client(market, "/binance/stream?streams=ethusdt@trade") as ws:
        ws.send({"method": "SUBSCRIBE", "params": ["ethusdt@trade"], "id": 1})
        assert ws.receive() == {"result": None, "id": 1}
        assert ws.drain(0.3) == []
    for path in ("trades", "historicalTrades"):
        reply = get(f"{market.url}/binance/api/v3/{path}?symbol=ETHUSDT")
        assert (reply.status_code, reply.json()) == (400, {"code": -1121, "msg": "Invalid symbol."})


def test_kraken_names_what_it_does_not_have(market: SimulatorServer) -> None:
    with client(market, "/kraken/v2") as ws:
        params = {"channel": "trade", "symbol": ["ETH/USDT", SYMBOL], "snapshot": False}
        ws.send({"method": "subscribe", "params": params, "req_id": 4})
        refusal, reply = control(ws, "method"), control(ws, "method")
        assert (refusal["error"], refusal["symbol"]) == ("Currency pair not supported ETH/USDT", "ETH/USDT")
        assert (reply["success"], reply["result"]["symbol"]) == (True, SYMBOL)
        ws.send({"method": "subscribe", "params": params, "req_id": 5})
        again = [control(ws, "method") for _ in range(2)][1]
        assert (again["error"], again["success"], again["symbol"], again["req_id"]) == (
            "Already subscribed", False, SYMBOL, 5,
        )  # fmt: skip
    assert get(f"{market.url}/kraken/0/public/Trades?pair=ETHUSDT").json() == {"error": ["EQuery:Unknown asset pair"]}


@pytest.mark.parametrize("how", ["named", "nameless", "bare"])
def test_for_a_while_or_so_many_times(market: SimulatorServer, how: str) -> None:
    with client(market, "/kraken/v2") as ws:
        begin(market, "refuse_passing", venue="kraken", symbol=SYMBOL, seconds=60, how=how, times=2, cut=False)
        for _ in range(2):
            subscribe(ws, "kraken")
            refusal = ws.until(lambda message: "error" in message or "Error" in message)
            assert (
                set(refusal) - {"time_in", "time_out"}
                == {
                    "named": {"error", "method", "success", "symbol"},
                    "nameless": {"error", "method", "success"},
                    "bare": {"Error"},
                }[how]
            )
        subscribe(ws, "kraken")
        assert control(ws, "success")["success"]


@pytest.mark.parametrize(("how", "keys"), [("nameless", {"error", "id"}), ("bare", {"code", "msg"})])
def test_binance_for_now(market: SimulatorServer, how: str, keys: set[str]) -> None:
    begin(market, "refuse_passing", venue="binance", seconds=60, how=how)
    with client(market, "/binance/ws/btcusdt@trade") as ws:
        assert ws.drain(0.3) == []  # the stream of the address is silent
        ws.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 3})
        assert set(ws.receive()) == keys
        market.end_faults()
        ws.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 4})
        assert ws.receive() == {"result": None, "id": 4}
        assert ws.receive()["e"] == "trade"


def test_coinbase_for_now(market: SimulatorServer) -> None:
    ws_all = {**BOTH, "product_ids": ["BTC-USDT", "SOL-USDT"]}
    with client(market, "/coinbase") as ws:
        begin(market, "refuse_passing", venue="coinbase", symbol="SOL/USDT", seconds=60, how="named", cut=False)
        ws.send(ws_all)
        assert ws.receive()["reason"] == "SOL-USDT is temporarily unavailable"
        market.end_faults()
        begin(market, "refuse_passing", venue="coinbase", seconds=0.3, how="nameless", cut=False)
        ws.send(ws_all)
        assert "USDT" not in ws.receive()["reason"]
        time.sleep(0.4)
        ws.send(ws_all)
        assert control(ws, "channels")


def test_it_cuts_first_so_that_there_is_something_to_refuse(market: SimulatorServer) -> None:
    with client(market, "/kraken/v2") as ws:
        subscribe(ws, "kraken")
        assert control(ws, "success")["success"]
        before = done(market, "refuse_passing")
        begin(market, "refuse_passing", venue="kraken", seconds=60)
        with pytest.raises(Exception, match=r"closed|reset|lost|timed out|connection"):
            ws.until(lambda _: False)
        assert done(market, "refuse_passing") == before + 1


def test_what_cannot_be_delisted(tmp_path: Path) -> None:
    for wrong in ("FOO/USDT", ":FOO/USDT", "binance:", "binance"):
        with pytest.raises(SettingError, match="expected VENUE:BASE/QUOTE"):
            read_delisted([wrong])
    assert read_delisted(["binance:FOO/USDT"]) == (("binance", "FOO/USDT"),)
    for pair in (("binance", "FOO/USDT"), ("mtgox", "BTC/USDT")):
        with pytest.raises(SettingError, match=f"expected a venue of {', '.join(VENUES)} and a symbol of"):
            SimulatorOptions(record=tmp_path, delisted=(pair,))
