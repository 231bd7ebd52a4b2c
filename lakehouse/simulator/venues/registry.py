"""The simulated venues by name. A venue is a package beside this module and a name in `market.venues.VENUES`."""

from __future__ import annotations

from lakehouse.market.venues import declared
from lakehouse.simulator.venues.model import SimulatedVenue

#: In the order of `market.venues.VENUES`.
VENUES: dict[str, SimulatedVenue] = declared("lakehouse.simulator.venues", "venue")
