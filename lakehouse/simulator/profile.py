"""The facts about one simulated venue that the exchange needs: rules of its markets, rate limits, texts of refusals."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.simulator.faults.words import VenueWords
from lakehouse.simulator.instruments import MarketRules
from lakehouse.simulator.limits import VenueLimits


@dataclass(frozen=True)
class VenueProfile:
    """One simulated venue's rules for markets, rate limits and texts of refusals; `venues/<venue>/venue.py` has it."""

    rules: MarketRules
    limits: VenueLimits
    words: VenueWords
