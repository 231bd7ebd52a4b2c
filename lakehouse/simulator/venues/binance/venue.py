"""Binance's addresses."""

from __future__ import annotations

from collections.abc import Mapping

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.transport import Transport
from lakehouse.simulator.venues.binance.connection import BinanceConnection
from lakehouse.simulator.venues.binance.names import split_native
from lakehouse.simulator.venues.binance.profile import PROFILE
from lakehouse.simulator.venues.binance.rest import historical_trades, newest_trades
from lakehouse.simulator.venues.model import SimulatedVenue


def _combined(
    exchange: Exchange,
    transport: Transport,
    query: Mapping[str, str],
    parts: Mapping[str, str],  # noqa: ARG001 - the streams are in the query
) -> BinanceConnection:
    return BinanceConnection(exchange, transport, query, query.get("streams", ""), wrapped=True)


def _raw(
    exchange: Exchange, transport: Transport, query: Mapping[str, str], parts: Mapping[str, str]
) -> BinanceConnection:
    return BinanceConnection(exchange, transport, query, parts.get("streams", ""), wrapped=False)


BINANCE = SimulatedVenue(
    profile=PROFILE,
    sockets={"/stream": _combined, "/ws": _raw, "/ws/{streams:path}": _raw},
    rest={"/api/v3/historicalTrades": historical_trades, "/api/v3/trades": newest_trades},
    call_weight=25.0,  # historicalTrades and trades, whatever the limit [documentation]
    recorded_symbol=split_native,
)
