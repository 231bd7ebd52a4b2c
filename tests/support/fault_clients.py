"""Clients of a simulated venue, and what they hear of its faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from lakehouse.simulator.timings import Timings
from tests.support.simulator_support import (
    SYMBOL,
    WS_PATHS,
    Client,
    client,
    running,
    subscribe,
    trades_of,
    truth,
)

TIMINGS = Timings(heartbeat=0.1)


@contextmanager
def exchange(tmp_path: Path, venue: str, **options: Any) -> Iterator[SimulatorServer]:
    with running(tmp_path, **{"venues": (venue,), "symbols": (SYMBOL,), "timings": TIMINGS, **options}) as server:
        yield server


@contextmanager
def listening(server: SimulatorServer, venue: str) -> Iterator[Client]:
    with client(server, WS_PATHS[venue]) as ws:
        subscribe(ws, venue)
        yield ws


def hears(venue: str, ws: Client) -> TrueTrade:
    """Its next trade."""
    message = ws.until(lambda message: bool(trades_of(venue, message)))
    return trades_of(venue, message)[0]


def is_heartbeat(message: Any) -> bool:
    return "heartbeat" in (message.get("channel"), message.get("type"))


def flows(venue: str, server: SimulatorServer) -> None:
    """A new connection hears exactly what the record has."""
    with listening(server, venue) as ws:
        heard = [hears(venue, ws) for _ in range(5)]
    true = {trade.trade_id: trade for trade in truth(server.record, venue, SYMBOL)}
    assert [true[trade.trade_id] for trade in heard] == heard


def ends_without_a_close_frame(ws: Client) -> bool:
    """Return True if the connection ends without a close frame before."""
    try:
        while True:
            if ws.frame().opcode == websocket.ABNF.OPCODE_CLOSE:
                return False
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return True
