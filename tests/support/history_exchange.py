"""A paused simulator with skipped ids for the tests of the history walks, and its truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx

from lakehouse.exchanges.binance.history import BinanceHistory
from lakehouse.exchanges.coinbase.history import CoinbaseHistory
from lakehouse.exchanges.history import History, Reply, Request
from lakehouse.exchanges.kraken.history import KrakenHistory
from lakehouse.exchanges.model import Trade
from lakehouse.exchanges.registry import VENUES
from lakehouse.simulator.faults.model import NoFaults, View
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from tests.support.history_tools import Fetch, Walked, walk
from tests.support.simulator_support import (
    NO_LIMITS,
    SYMBOL,
    WS_PATHS,
    client,
    running,
    subscribe,
    truth,
    until,
)

LEAST_TRADES = 4000


class Gaps(NoFaults):
    """Five ids are skipped now and then; what REST shows is set by a test."""

    active = True

    def __init__(self) -> None:
        self.calls = 0
        self.shown = View()

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        self.calls += 1
        return 5 if self.calls % 4 == 0 else 0

    def view(self, venue: str, symbol: str) -> View:  # noqa: ARG002
        return self.shown


@dataclass
class Exchange:
    """A paused simulator: its REST, its truth, its faults."""

    server: SimulatorServer
    faults: Gaps
    true: dict[str, list[TrueTrade]]
    http: httpx.Client

    def fetch(self, name: str) -> Fetch:
        return fetcher(self.server, name, self.http)

    def walk(self, name: str, first: int, last: int, page: int = 1000, **times: int | None) -> tuple[History, Walked]:
        """A walk with the times of the neighbours, as ingest would know them."""
        history = self.build(name, first, last, page, **times)
        return history, walk(history, self.fetch(name))

    def build(self, name: str, first: int, last: int, page: int, **times: int | None) -> History:
        before = [trade.ts_event for trade in self.true[name] if trade.trade_id < first]
        after = [trade.ts_event for trade in self.true[name] if trade.trade_id > last]
        ts_before = times.get("ts_before", before[-1] if before else None)
        ts_after = times.get("ts_after", after[0] if after else None)
        if page == 1000:
            return VENUES[name].history(SYMBOL, first, last, ts_before, ts_after)
        if name == "kraken":
            return KrakenHistory(SYMBOL, first, last, ts_before, ts_after, page=page)
        if name == "binance":
            return BinanceHistory(SYMBOL, "BTCUSDT", first, last, page=page)
        return CoinbaseHistory(SYMBOL, "BTC-USDT", first, last, page=page)


def fetcher(server: SimulatorServer, name: str, http: httpx.Client) -> Fetch:
    root = VENUES[name].rest_url(server.url)

    def fetch(request: Request) -> Reply:
        got = http.get(root + request.path, params=request.params, headers=request.headers)
        headers = {key.lower(): value for key, value in got.headers.items()}
        return Reply(got.status_code, headers, got.content, ts_ingest=1_800_000_000_000_000)

    return fetch


@contextmanager
def paused_exchange(record: Path) -> Iterator[Exchange]:
    """An exchange that has made some thousand trades at each venue."""
    faults = Gaps()
    options = {"rate": 6000.0, "faults": faults, "limits": NO_LIMITS, "symbols": (SYMBOL,)}
    with (
        running(record, **options) as server,
        httpx.Client(verify=False, trust_env=False) as http,
    ):
        for name in VENUES:
            with client(server, WS_PATHS[name]) as ws:
                subscribe(ws, name)
                ws.receive()
        until(lambda: all(server.record.count(name, SYMBOL) >= LEAST_TRADES for name in VENUES), 60)
        server.pause()
        yield Exchange(server, faults, {name: truth(server.record, name, SYMBOL) for name in VENUES}, http)


def assert_true(name: str, trades: list[Trade], true: list[TrueTrade]) -> None:
    """Trade for trade what the exchange made, to the last digit and within a millisecond."""
    venue = VENUES[name]
    true = sorted(true, key=lambda one: one.trade_id)
    trades = sorted(trades, key=lambda one: one.trade_id)
    assert [one.trade_id for one in trades] == [one.trade_id for one in true]
    for got, made in zip(trades, true, strict=True):
        assert (got.venue, got.symbol, got.native_symbol) == (name, SYMBOL, venue.native(SYMBOL))
        assert (Decimal(got.price), Decimal(got.size), got.side) == (made.price, made.size, made.side)
        assert abs(got.ts_event - made.ts_event) < 1000
        assert got.ts_ingest == 1_800_000_000_000_000
        assert got.raw[0] in "{["


def skipped(true: list[TrueTrade], first: int, last: int) -> list[int]:
    """Ids of the range that the exchange never used."""
    used = {trade.trade_id for trade in true}
    return [one for one in range(first, last + 1) if one not in used]
