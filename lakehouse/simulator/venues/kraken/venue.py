"""Kraken's addresses."""

from __future__ import annotations

from lakehouse.simulator.venues.kraken.connection import KrakenConnection
from lakehouse.simulator.venues.kraken.profile import PROFILE
from lakehouse.simulator.venues.kraken.rest import trades
from lakehouse.simulator.venues.model import SimulatedVenue

KRAKEN = SimulatedVenue(
    profile=PROFILE,
    sockets={"/v2": lambda exchange, transport, query, _parts: KrakenConnection(exchange, transport, query)},
    rest={"/0/public/Trades": trades},
)
