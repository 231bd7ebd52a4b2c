"""REST calls to a simulated venue whose market has traded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import (
    WS_PATHS,
    Pool,
    client,
    get,
    subscribe,
    trades_of,
)

REST = {
    "binance": "/binance/api/v3/historicalTrades?symbol=BTCUSDT",
    "kraken": "/kraken/0/public/Trades?pair=XBTUSDT",
    "coinbase": "/coinbase/products/BTC-USDT/trades?",
}


@contextmanager
def traded(pool: Pool, venue: str, count: int = 300) -> Iterator[SimulatorServer]:
    """A simulator of one venue whose market has made some trades; it trades on."""
    with pool.lend(venue) as server, client(server, WS_PATHS[venue]) as ws:
        subscribe(ws, venue)
        heard = 0
        while heard < count:
            heard += len(trades_of(venue, ws.receive()))
        yield server


def ask(server: SimulatorServer, venue: str, more: str = "") -> httpx.Response:
    return get(f"{server.url}{REST[venue]}{more}")


def ids(venue: str, reply: httpx.Response) -> list[int]:
    """Ids of a page, ascending."""
    assert reply.status_code == 200
    page = reply.json()
    if venue == "kraken":
        assert page["error"] == []
        return [row[6] for row in page["result"]["XBTUSDT"]]
    return sorted(row["id" if venue == "binance" else "trade_id"] for row in page)
