"""The times, in seconds, after which the simulated venues ping, send heartbeats and close connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """The simulated venues' times, in seconds; the defaults are the venues' (docs/venues.md). Tests shorten them."""

    #: Binance pings a client every so often, and ends the connection if no pong came for so long.
    ping: float = 20.0
    pong: float = 60.0
    #: Coinbase ends a connection that has not subscribed by then.
    subscribe: float = 5.0
    #: Time between two heartbeats of Kraken and Coinbase.
    heartbeat: float = 1.0
    #: Binance ends every connection at this age.
    day: float = 24 * 3600.0
