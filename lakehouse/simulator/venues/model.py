"""The parts of a simulated venue: its facts, its sockets, its REST calls, and how a recorded file names its symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.market.symbols import canonical_symbol
from lakehouse.simulator.connection import ClientConnection
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import RestCall, RestReply
from lakehouse.simulator.profile import VenueProfile
from lakehouse.simulator.transport import Transport

#: Builds the connection of a new client: exchange, transport, query of the address, named parts of its path.
Connect = Callable[[Exchange, Transport, Mapping[str, str], Mapping[str, str]], ClientConnection]
#: Answers a REST call.
Answer = Callable[[Exchange, RestCall], RestReply]


@dataclass(frozen=True)
class SimulatedVenue:
    """One venue. Paths are patterns of Starlette below the venue's name, such as `/ws/{streams:path}`."""

    profile: VenueProfile
    #: Path → how a client's connection is built.
    sockets: Mapping[str, Connect]
    #: Path → how a REST call is answered.
    rest: Mapping[str, Answer]
    #: The weight of each REST call in the venue's budget (`limits`).
    call_weight: float = 1.0
    #: The canonical symbol of a name in a recorded file. Raises ValueError if it is none.
    recorded_symbol: Callable[[str], str] = canonical_symbol

    #: The list of native names in a recorded subscribe message; anything else if it has none.
    recorded_names: Callable[[dict[str, Any]], Any] = lambda _: []

    @property
    def name(self) -> str:
        """The venue's name."""
        return self.profile.rules.venue
