"""The facts of one simulated venue that the exchange works with: its markets, limits and words."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.simulator.faults.words import VenueWords
from lakehouse.simulator.instruments import MarketRules
from lakehouse.simulator.limits import VenueLimits


@dataclass(frozen=True)
class VenueProfile:
    """One venue's facts; each venue's package has its own in `venue.py`."""

    rules: MarketRules
    limits: VenueLimits
    words: VenueWords
