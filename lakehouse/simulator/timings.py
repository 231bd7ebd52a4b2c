"""The times after which the venues ping, send heartbeats and close."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds of the protocols' clocks; the defaults are the venues' own (docs/venues.md). Tests shorten them."""

    ping: float = 20.0
    pong: float = 60.0
    subscribe: float = 5.0
    heartbeat: float = 1.0
    #: Binance ends every connection after so long.
    day: float = 24 * 3600.0
