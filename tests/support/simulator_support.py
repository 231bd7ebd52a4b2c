"""A plain client of the simulated exchange, over real sockets, that shares nothing with `lakehouse.exchanges`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import httpx
import websocket

from lakehouse.simulator.limits import Limits
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.record import Record, TrueTrade
from lakehouse.simulator.server import SimulatorServer

Side = Literal["buy", "sell"]
SYMBOL = "BTC/USDT"
#: Where BTC/USDT is heard.
WS_PATHS = {
    "binance": "/binance/ws/btcusdt@trade?timeUnit=MICROSECOND",
    "kraken": "/kraken/v2",
    "coinbase": "/coinbase",
}
NO_LIMITS = Limits().times(0)


@contextmanager
def running(record: Path, **options: Any) -> Iterator[SimulatorServer]:
    with SimulatorServer(SimulatorOptions(record=record, **{"rate": 600.0, **options})) as server:
        yield server
    assert not server.is_running


class Client:
    """One WebSocket connection; JSON numbers are read as decimals."""

    def __init__(self, server: SimulatorServer, path: str) -> None:
        self.socket = websocket.create_connection(f"{server.ws_url}{path}", timeout=5)

    def send(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str) else json.dumps(message))

    def raw(self) -> str:
        text = self.socket.recv()
        assert isinstance(text, str)
        return text

    def receive(self) -> Any:
        return json.loads(self.raw(), parse_float=Decimal)

    def until(self, wanted: Callable[[Any], bool], seconds: float = 5.0) -> Any:
        """The first message that is wanted."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self.receive()
            if wanted(message):
                return message
        raise AssertionError("the wanted message did not come")

    def drain(self, seconds: float = 0.3) -> list[Any]:
        """Everything that comes until nothing has come for so long."""
        messages = []
        self.socket.settimeout(seconds)
        try:
            while True:
                messages.append(self.receive())
        except websocket.WebSocketTimeoutException:
            self.socket.settimeout(5)
        return messages

    def listen(self, seconds: float) -> list[Any]:
        """Everything that comes within so many seconds."""
        messages = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            with contextlib.suppress(websocket.WebSocketTimeoutException):
                messages.append(self.receive())
        self.socket.settimeout(5)
        return messages

    def closed_with(self) -> tuple[int, str]:
        """Read, answering nothing, until the close frame; its code and reason."""
        while True:
            frame = self.frame()
            if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()

    def frame(self) -> Any:
        """The next WebSocket frame of any kind; the library answers no ping here."""
        return self.socket.recv_frame()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.socket.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def client(server: SimulatorServer, path: str) -> Iterator[Client]:
    connection = Client(server, path)
    try:
        yield connection
    finally:
        connection.close()


def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """GET without loading the certificates that localhost does not need."""
    return httpx.get(url, headers=headers, verify=False, trust_env=False)


def until(wanted: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def begin(server: SimulatorServer, kind: str, **details: Any) -> int:
    """Begin a fault over the admin call; its number."""
    reply = httpx.post(f"{server.url}/admin/faults", json={"kind": kind, **details}, trust_env=False)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["id"])


def end_faults(server: SimulatorServer) -> int:
    """End all faults over the admin call; how many were active."""
    return int(httpx.delete(f"{server.url}/admin/faults", trust_env=False).json()["ended"])


class Pool:
    """Simulators of one venue each, lent to one test after the other: a start and a stop for many tests."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self._options = options
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, SimulatorServer] = {}

    @contextmanager
    def lend(self, venue: str) -> Iterator[SimulatorServer]:
        """One without faults and connections, trading; counts of faults begin anew."""
        if venue not in self._servers:
            one = running(self._folder / venue, venues=(venue,), symbols=(SYMBOL,), **self._options)
            self._servers[venue] = self._stack.enter_context(one)
        server = self._servers[venue]
        server.resume()
        _DONE_BEFORE[server] = server.status()["faults"]["done"]
        try:
            yield server
        finally:
            server.end_faults()
            server.pause()
            until(lambda: server.status()["connections"] == {venue: 0})

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *ended: object) -> None:
        self._stack.close()


_DONE_BEFORE: dict[SimulatorServer, dict[str, int]] = {}


def done(server: SimulatorServer, kind: str) -> int:
    """How often a kind of fault has struck, in this test."""
    counts = server.status()["faults"]["done"]
    return int(counts.get(kind, 0)) - _DONE_BEFORE.get(server, {}).get(kind, 0)


def truth(record: Record, venue: str, symbol: str) -> list[TrueTrade]:
    return list(record.iter(venue, symbol))


def micros(text: str) -> int:
    """Microseconds since the epoch of `2023-09-25T07:48:36.925533Z`."""
    from datetime import datetime, timedelta

    since = datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z")
    return since // timedelta(microseconds=1)


def binance_trade(data: dict[str, Any], symbol: str) -> TrueTrade:
    side: Side = "sell" if data["m"] else "buy"
    return TrueTrade("binance", symbol, data["t"], Decimal(data["p"]), Decimal(data["q"]), side, data["T"])


def kraken_trade(data: dict[str, Any]) -> TrueTrade:
    price, size = Decimal(data["price"]), Decimal(data["qty"])
    return TrueTrade("kraken", data["symbol"], data["trade_id"], price, size, data["side"], micros(data["timestamp"]))


def coinbase_trade(data: dict[str, Any]) -> TrueTrade:
    symbol, price, size = data["product_id"].replace("-", "/"), Decimal(data["price"]), Decimal(data["size"])
    side: Side = "sell" if data["side"] == "buy" else "buy"
    return TrueTrade("coinbase", symbol, data["trade_id"], price, size, side, micros(data["time"]))


def subscribe(ws: Client, venue: str, snapshot: bool = False) -> None:
    """Ask for BTC/USDT; Binance has it in its address."""
    if venue == "kraken":
        params = {"channel": "trade", "symbol": [SYMBOL], "snapshot": snapshot}
        ws.send({"method": "subscribe", "params": params})
    elif venue == "coinbase":
        ws.send({"type": "subscribe", "product_ids": ["BTC-USDT"], "channels": ["matches", "heartbeat"]})


def trades_of(venue: str, message: Any) -> list[TrueTrade]:
    """The trades in a message, snapshots included."""
    if not isinstance(message, dict):
        return []
    if venue == "binance":
        return [binance_trade(message, SYMBOL)] if message.get("e") == "trade" else []
    if venue == "kraken":
        return [kraken_trade(one) for one in message["data"]] if message.get("channel") == "trade" else []
    return [coinbase_trade(message)] if message.get("type") in ("match", "last_match") else []
