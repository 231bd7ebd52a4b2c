"""Coinbase's addresses."""

from __future__ import annotations

from lakehouse.simulator.venues.coinbase.connection import CoinbaseConnection
from lakehouse.simulator.venues.coinbase.profile import PROFILE
from lakehouse.simulator.venues.coinbase.rest import trades
from lakehouse.simulator.venues.model import SimulatedVenue

COINBASE = SimulatedVenue(
    profile=PROFILE,
    sockets={"": lambda exchange, transport, query, _parts: CoinbaseConnection(exchange, transport, query)},
    rest={"/products/{product}/trades": trades},
)
