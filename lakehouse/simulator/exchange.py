"""The core of the simulated exchange: all markets, all connections, and the tick that joins them.

A tick does this for every open market: 1. make its trades, 2. write them to the record, 3. encode them once for each
variant of a venue's encoding, 4. put them into the outboxes of the subscribed connections. Then each connection sends
its outbox in one write. A subscriber therefore gets every trade that is made after its subscription, and no trade that
is not in the record.

A market opens at its first subscription, so that the record begins with the first trade that a client heard. Then it
trades on, with or without clients, unless it is paused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from lakehouse.simulator.fair_price import FairPrice
from lakehouse.simulator.faults.injector import FaultInjector
from lakehouse.simulator.faults.kinds import FaultError, read_fault
from lakehouse.simulator.faults.model import Faults, Frame, Peer
from lakehouse.simulator.instruments import Instrument, list_symbol
from lakehouse.simulator.limits import Gates
from lakehouse.simulator.market import Market
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.playback import Listener, Playback
from lakehouse.simulator.profile import VenueProfile
from lakehouse.simulator.record import Row

#: Time between two ticks: so short that a trade is some milliseconds late at most, so long that a tick makes many.
TICK_SECONDS = 0.005
#: Time between two ticks while no market is open: such a tick only serves the connections' clocks.
IDLE_TICK_SECONDS = 0.02
HOUSEKEEPING_SECONDS = 0.05
#: The status gives the rate of trades over the last so many seconds.
RATE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Subscriber(Listener, Protocol):
    """The exchange's view of a client's connection (`connection.ClientConnection`)."""

    is_over: bool

    @property
    def peer(self) -> Peer:
        """The client's identity for the faults: its venue, number and time of connection."""

    @property
    def variant(self) -> str:
        """Name of this connection's encoding of trades; connections with the same one get the same frames."""

    def trade_frames(self, instrument: Instrument, rows: list[Row], now: int) -> list[Frame]:
        """Encode trades of one instrument as the venue's frames; `now` (µs) is the time of sending."""

    def tick(self, now: float) -> None:
        """Send the heartbeats and pings that are due and check timeouts; `now` in monotonic seconds."""


class Exchange:
    """The state of one simulator: all markets, client connections, faults and limits. Lives in one event loop.

    `playbacks` (venue → recorded frames) replace the markets of their venues; `profiles` are the venues' rules.
    """

    def __init__(
        self, options: SimulatorOptions, playbacks: dict[str, Playback], profiles: Mapping[str, VenueProfile]
    ) -> None:
        self.profiles = {venue: profiles[venue] for venue in options.all_venues(playbacks)}
        words = {venue: one.words for venue, one in self.profiles.items()}
        self.options = options
        #: The injector that `/admin/faults` begins and ends faults in; None if the options have `faults` of their own.
        seed = options.seed if options.fault_seed is None else options.fault_seed
        self.box = None if options.faults else FaultInjector(seed, words, options.schedule(playbacks))
        faults = options.faults or self.box
        assert faults is not None
        self.faults: Faults = faults
        self.gates = Gates(options.limits, {venue: one.limits for venue, one in self.profiles.items()}, words)
        self.playbacks = playbacks
        self.paused = False
        self.error: str | None = None
        self.connections: dict[Subscriber, None] = {}
        self.markets: dict[tuple[str, str], Market] = {}
        self._listeners: dict[tuple[str, str], dict[Subscriber, None]] = {}
        self._sent: dict[tuple[str, str], int] = {}
        self._names: dict[tuple[str, str], Instrument] = {}
        #: (venue, its own name) of each symbol that the venue no longer lists.
        self.delisted: set[tuple[str, str]] = set()
        self._numbers = 0
        self._made: deque[tuple[float, int]] = deque()
        self._started = time.monotonic()
        self._build()

    def _build(self) -> None:
        venues = [venue for venue in self.options.venues if venue not in self.playbacks]
        known = [
            list_symbol(self.profiles[venue].rules, symbol, place)
            for venue in venues
            for place, symbol in enumerate(self.options.symbols)
        ]
        instruments = [one for one in known if (one.venue, one.symbol) not in self.options.delisted]
        self.delisted.update((one.venue, one.native) for one in known if one not in instruments)
        weights = sum(instrument.weight for instrument in instruments)
        assets = dict.fromkeys(symbol.split("/")[0] for symbol in self.options.symbols)
        moves = self.options.moves_per_hour / len(assets)
        fair = {asset: FairPrice(self.options.seed, asset, moves) for asset in assets}
        for instrument in instruments:
            key = (instrument.venue, instrument.symbol)
            rate = self.options.rate * instrument.weight / weights
            price = fair[instrument.symbol.split("/")[0]]
            self.markets[key] = Market(instrument, price, rate, self.options.seed, self.options.record)
            self._listeners[key] = {}
            self._sent[key] = 0
            self._names[instrument.venue, instrument.native] = instrument

    def next_number(self) -> int:
        """Return a new number for a connection: 1, 2, 3, … in the order of connecting."""
        self._numbers += 1
        return self._numbers

    @property
    def listeners(self) -> Iterable[Subscriber]:
        """All connections of all venues; playbacks choose their listeners among them."""
        return self.connections

    def pause(self, paused: bool) -> None:
        """Halt all markets and playbacks if `paused`, else let them go on. Connections stay alive either way."""
        self.paused = paused
        if not paused:
            self.error = None

    def begin_fault(self, message: Any) -> int:
        """Begin the fault that `message` describes, the JSON of `POST /admin/faults`; return its number.

        Raises FaultError if the message is not valid, or if the simulator was started with faults of its own.
        """
        if self.box is None:
            raise FaultError("this simulator was started with faults of its own; expected one without")
        venues = self.options.all_venues(self.playbacks)
        number = self.box.add(read_fault(message, venues, self.options.symbols))
        self.flush()  # what happens once happens now
        return number

    def end_faults(self) -> int:
        """End all faults and the schedule of faults; return how many faults were active.

        Ends none and returns 0 if the simulator was started with faults of its own.
        """
        ended = self.box.end_all() if self.box else 0
        self.flush()  # what was held back
        return ended

    def instrument(self, venue: str, native: str) -> Instrument | None:
        """Return the instrument that a venue lists under its WebSocket name `native`; None if there is none."""
        return self._names.get((venue, native))

    def instruments(self, venue: str) -> list[Instrument]:
        """Return all instruments that a venue lists."""
        return [instrument for (of, _), instrument in self._names.items() if of == venue]

    def join(self, connection: Subscriber, symbol: str) -> Market:
        """Subscribe a connection to a canonical symbol of its venue; return the market.

        The first subscription opens the market. Raises KeyError if the venue does not list the symbol.
        """
        key = (connection.venue, symbol)
        market = self.markets[key]
        market.is_open = True
        self._listeners[key][connection] = None
        return market

    def is_heard(self, connection: Subscriber, symbol: str) -> bool:
        """Return True if a connection is subscribed to a canonical symbol of its venue."""
        return connection in self._listeners.get((connection.venue, symbol), {})

    def leave(self, connection: Subscriber, symbol: str) -> None:
        """Unsubscribe a connection from a canonical symbol; nothing happens if it is not subscribed."""
        self._listeners.get((connection.venue, symbol), {}).pop(connection, None)

    def forget(self, connection: Subscriber) -> None:
        """Remove a connection that has ended, with all its subscriptions."""
        connection.is_over = True
        self.faults.closed(connection.peer)
        self.connections.pop(connection, None)
        for listeners in self._listeners.values():
            listeners.pop(connection, None)

    async def run(self) -> None:
        """Make and send trades, tick after tick, and serve the connections' clocks, until the task is cancelled."""
        last = time.monotonic()
        housekeeping = 0.0
        while True:
            is_busy = not self.paused and any(market.is_open for market in self.markets.values())
            await asyncio.sleep(TICK_SECONDS if is_busy else IDLE_TICK_SECONDS)
            now = time.monotonic()
            elapsed, last = now - last, now
            self.faults.tick(now)
            if is_busy and not self.paused:
                self._tick(elapsed, now)
            elif self.faults.active:
                self.flush()
            if now >= housekeeping:
                housekeeping = now + HOUSEKEEPING_SECONDS
                for connection in list(self.connections):
                    connection.tick(now)

    def _tick(self, elapsed: float, now: float) -> None:
        made = 0
        for key, market in self.markets.items():
            if market.is_open:
                made += self._trade(key, market, elapsed)
        self.flush()
        self._made.append((now, made))
        while self._made[0][0] < now - RATE_SECONDS:
            self._made.popleft()

    def _trade(self, key: tuple[str, str], market: Market, elapsed: float) -> int:
        time_us = time.time_ns() // 1000 + (self.faults.clock_ahead(key[0]) if self.faults.active else 0)
        try:
            skip = partial(self.faults.skipped_ids, *key) if self.faults.active else None
            rows = market.make(elapsed, time_us, skip)
        except OSError as error:
            # A trade that cannot be recorded is not sent: the exchange halts until somebody resumes it.
            self.paused = True
            self.error = f"cannot write the record of {key[0]} {key[1]}: {error}; trading is paused"
            logger.error(self.error)
            return 0
        if not rows:
            return 0
        frames: dict[str, list[Frame]] = {}
        for connection in self._listeners[key]:
            variant = connection.variant
            if variant not in frames:
                frames[variant] = connection.trade_frames(market.instrument, rows, time_us)
            connection.outbox.extend(frames[variant])
            self._sent[key] += len(rows)
        return len(rows)

    def flush(self) -> None:
        """Make every connection send the frames of its outbox, as far as the active faults let them pass."""
        for connection in list(self.connections):
            connection.flush()

    def status(self) -> dict[str, Any]:
        """Build the reply of `GET /admin/status`: rate, seed, uptime, whether it is `paused`, and the parts.

        The parts are markets, connections, limits, faults and playbacks. `error` is why the record could not be
        written, None if there was no error. `sent` counts trades handed to subscribers, before any fault.
        """
        window = min(RATE_SECONDS, time.monotonic() - self._started) or 1.0
        recent = [made for at, made in self._made if at >= time.monotonic() - window]
        return {
            "simulated": True,
            "rate_target": self.options.rate,
            "rate": round(sum(recent) / window, 1),
            "seed": self.options.seed,
            "paused": self.paused,
            "error": self.error,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "connections": {
                venue: sum(s.venue == venue for s in self.connections)
                for venue in self.options.all_venues(self.playbacks)
            },
            "markets": [self._market_status(key, market) for key, market in self.markets.items()],
            **self.gates.status(),
            "faults": self.faults.status(),
            "replays": [line for playback in self.playbacks.values() for line in playback.status()],
            "replay_ended": all(playback.ended for playback in self.playbacks.values()) if self.playbacks else None,
        }

    def _market_status(self, key: tuple[str, str], market: Market) -> dict[str, Any]:
        tape = market.tape
        return {
            "venue": key[0],
            "symbol": key[1],
            "is_open": market.is_open,
            "rate_target": round(market.rate, 3),
            "made": market.made,
            "sent": self._sent[key],
            "recorded": tape.count if tape else 0,
            "first_id": tape.first.trade_id if tape and tape.first else None,
            "last_id": tape.last.trade_id if tape and tape.last else None,
            "subscribers": len(self._listeners[key]),
        }

    def close(self) -> None:
        """Close the record files of all markets."""
        for market in self.markets.values():
            market.close()
