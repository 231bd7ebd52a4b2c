"""The interface of a simulated venue: its rules, WebSocket and REST addresses, and its names in recorded files."""

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

#: Builds the connection of a new client from: the exchange, the transport, the query of the address, the named parts of
#: its path.
Connect = Callable[[Exchange, Transport, Mapping[str, str], Mapping[str, str]], ClientConnection]
#: Answers a REST call, from the exchange and the call.
Answer = Callable[[Exchange, RestCall], RestReply]


@dataclass(frozen=True)
class SimulatedVenue:
    """One simulated venue. Paths are Starlette's patterns below the venue's name, such as `/ws/{streams:path}`."""

    profile: VenueProfile
    #: Path of a WebSocket → the function that builds a client's connection.
    sockets: Mapping[str, Connect]
    #: Path of a REST call → the function that answers it.
    rest: Mapping[str, Answer]
    #: Weight of each REST call, counted against the venue's rate limit (`limits`).
    call_weight: float = 1.0
    #: Converts the venue's name of a symbol in a recorded file to the canonical one. Raises ValueError if it cannot.
    recorded_symbol: Callable[[str], str] = canonical_symbol

    #: The list of native names in a recorded subscribe message; anything else if it has none.
    recorded_names: Callable[[dict[str, Any]], Any] = lambda _: []

    @property
    def name(self) -> str:
        """The venue's name, which is also the first part of its addresses: `kraken`."""
        return self.profile.rules.venue
