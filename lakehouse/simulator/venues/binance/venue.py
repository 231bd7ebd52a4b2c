"""The simulated Binance: rules of its markets, rate limits, texts of refusals, and addresses (docs/venues.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.http_refusals import RESTRICTED
from lakehouse.simulator.faults.model import RestReply
from lakehouse.simulator.faults.words import VenueWords, json_body
from lakehouse.simulator.instruments import MarketRules
from lakehouse.simulator.limits import Limit, VenueLimits
from lakehouse.simulator.profile import VenueProfile
from lakehouse.simulator.transport import Transport
from lakehouse.simulator.venues.binance.connection import BinanceConnection
from lakehouse.simulator.venues.binance.names import split_native
from lakehouse.simulator.venues.binance.rest import historical_trades, newest_trades
from lakehouse.simulator.venues.model import SimulatedVenue

_TOO_MANY = json_body(
    {"code": -1003, "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."}
)
_ERROR = json_body({"code": -1000, "msg": "An unknown error occurred while processing the request."})


def _shutdown_notice() -> bytes:
    return f'{{"e":"serverShutdown","E":{time.time_ns() // 1_000_000}}}'.encode()


_PROFILE = VenueProfile(
    rules=MarketRules(
        venue="binance",
        separator="",
        weight=3.0,
        first_id=4_000_000_000,
        digits=7,
        least_decimals=2,
        most_decimals=8,
        written_decimals=8,  # whatever the tick is
        has_coarse_lots=True,
    ),
    limits=VenueLimits(
        rest=Limit(6000, 60.0, ban=120.0),  # the shortest ban that the venue names
        attempts=Limit(300, 300.0),
    ),
    words=VenueWords(
        not_now=("Too many requests", "Internal error; unable to process your request. Please try again."),
        named_not_now="Invalid request: {} is not available now",
        too_many=_TOO_MANY,
        too_many_handshakes=_TOO_MANY,
        restricted=json_body({"code": 0, "msg": RESTRICTED}),
        errors=(RestReply(_ERROR, 500),),
        shutdown_notice=_shutdown_notice,
    ),
)


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


def _recorded_names(message: dict[str, Any]) -> list[str]:
    streams = message.get("params")
    return [str(stream).partition("@")[0] for stream in streams] if isinstance(streams, list) else []


VENUE = SimulatedVenue(
    profile=_PROFILE,
    sockets={"/stream": _combined, "/ws": _raw, "/ws/{streams:path}": _raw},
    rest={"/api/v3/historicalTrades": historical_trades, "/api/v3/trades": newest_trades},
    call_weight=25.0,  # historicalTrades and trades, whatever the limit [documentation]
    recorded_symbol=split_native,
    recorded_names=_recorded_names,
)
