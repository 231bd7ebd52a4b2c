"""All simulated venues: name → venue. To add one: a package beside this module and one line here."""

from __future__ import annotations

from lakehouse.simulator.venues.binance.venue import BINANCE
from lakehouse.simulator.venues.coinbase.venue import COINBASE
from lakehouse.simulator.venues.kraken.venue import KRAKEN
from lakehouse.simulator.venues.model import SimulatedVenue

VENUES: dict[str, SimulatedVenue] = {venue.name: venue for venue in (BINANCE, KRAKEN, COINBASE)}
