"""Apply the faults of a simulator: keep the active ones, begin those of the schedule, and count each kind.

Guarantee: with no active fault nothing here touches a trade; an ended fault leaves nothing behind but the
subscriptions that `ack_silent` made worthless and the closings that `server_shutdown` announced, which last as long as
their connections, or until `end_all`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from lakehouse.simulator.faults import http_refusals
from lakehouse.simulator.faults.connection_faults import ConnectionFaults, Fault
from lakehouse.simulator.faults.kinds import Value, Wanted
from lakehouse.simulator.faults.model import (
    WHOLE,
    Cut,
    Frame,
    Peer,
    Refusal,
    RestCall,
    RestReply,
    SubscriptionRefusal,
    View,
)
from lakehouse.simulator.faults.schedule import Planned, as_lines
from lakehouse.simulator.faults.words import VenueWords

#: Number of the schedule's next faults that `describe` shows.
UPCOMING = 5


class FaultInjector:
    """The `Faults` that a simulator normally has: applies faults begun by `add` or by the schedule.

    Lives in the server's one event loop. `words` are the venues' texts, venue → texts. `schedule` begins at the first
    tick; None: no schedule. `seed` determines all random choices, such as what a fault with a `share` below 1 strikes.
    """

    def __init__(self, seed: int, words: Mapping[str, VenueWords], schedule: Iterator[Planned] | None = None) -> None:
        self._words = words
        self.active = False
        self.done: Counter[str] = Counter()
        self._random = Random(f"{seed}/fault box")
        self._faults: list[Fault] = []
        self._connections: dict[int, ConnectionFaults] = {}
        self._number = 0
        self._schedule = schedule
        self._upcoming: deque[Planned] = deque()
        self._began: float | None = None
        self._gaps: dict[tuple[int, str, str], float] = {}

    # Begin and end

    def add(self, wanted: Wanted) -> int:
        """Begin a fault now and return its number, from 1."""
        self._number += 1
        self._faults.append(Fault(self._number, wanted, time.monotonic(), self.done))
        self.active = True
        return self._number

    def end_all(self) -> int:
        """End every fault and the schedule; return how many faults were active."""
        ended = len(self._faults)
        self._faults.clear()
        self._schedule = None
        self._upcoming.clear()
        for connection in self._connections.values():
            connection.heal()
        return ended

    def tick(self, now: float) -> None:
        """Begin the scheduled faults that are due and end those whose time is over; `now` in monotonic seconds."""
        if self._schedule is not None:
            if self._began is None:
                self._began = now
            while (planned := self._next()) and planned.at <= now - self._began:
                self.add(self._upcoming.popleft().wanted)
        if not self.active:
            return
        if any(fault.until <= now for fault in self._faults):
            self._faults = [fault for fault in self._faults if fault.until > now]
            for connection in self._connections.values():
                connection.release()
        self.active = bool(self._faults) or any(connection.is_busy for connection in self._connections.values())

    def _next(self) -> Planned | None:
        while self._schedule is not None and len(self._upcoming) < UPCOMING:
            self._upcoming.append(next(self._schedule))
        return self._upcoming[0] if self._upcoming else None

    # Questions while trades are made and sent

    def admits(self, venue: str) -> Refusal | None:
        """Return the refusal of a new connection by an `outage` or `handshake_refused` that strikes; else None."""
        for fault in self._of("outage", venue):
            if fault.strikes(self._random):
                fault.count()
                how = fault.wanted.parameters["how"]
                return Refusal(0 if how == "reset" or (how == "any" and self._random.random() < 0.5) else 503)
        for fault in self._of("handshake_refused", venue):
            if fault.strikes(self._random):
                fault.count()
                status = self._one_of(fault.wanted.parameters["status"], http_refusals.PASSING)
                form = self._one_of(fault.wanted.parameters["form"], http_refusals.FORMS)
                return http_refusals.handshake(self._words[venue], int(status), self._named(fault), form)
        return None

    def refuses(self, peer: Peer, symbol: str, native: str) -> SubscriptionRefusal | None:
        """Return the refusal of a subscription by a `refuse_passing` that strikes; None if none does.

        A fault refuses at most its parameter `times`, 0 meaning no bound. `native` is the venue's name of the symbol.
        """
        for fault in self._of("refuse_passing", peer.venue, symbol):
            if not 0 < fault.wanted.number("times") <= fault.refused and fault.strikes(self._random):
                fault.refused += 1
                fault.count()
                return self._words[peer.venue].refuse_subscription(
                    native, str(fault.wanted.parameters["how"]), self._random
                )
        return None

    def _one_of(self, word: Value, words: Sequence[str]) -> str:
        return self._random.choice(words) if word == "any" else str(word)

    @staticmethod
    def _named(fault: Fault) -> float:
        """Seconds that a refusal names."""
        return fault.wanted.number("retry_after") or fault.until - time.monotonic()

    def subscribes(self, peer: Peer, symbol: str) -> None:
        """On a new subscription, mute the symbol on its connection if an `ack_silent` strikes, else unmute it."""
        connection = self._connection(peer)
        connection.unheard.discard(symbol)
        for fault in self._of("ack_silent", peer.venue, symbol):
            if fault.strikes(self._random):
                fault.count()
                connection.unheard.add(symbol)

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:
        """Return the frames to send in place of `frames`, after the active faults about this connection's venue.

        They may include frames held back earlier, and a Cut that ends the connection.
        """
        faults = [fault for fault in self._faults if fault.hits(peer.venue)]
        return self._connection(peer).send(faults, frames, time.monotonic())

    def closed(self, peer: Peer) -> None:
        """Drop the state of a connection that has ended, and the frames that were held back for it."""
        self._connections.pop(peer.number, None)

    def answers_ping(self, peer: Peer) -> bool:
        """Return True if a client's WebSocket ping gets its pong: False if a fault `no_pong` strikes its connection."""
        for fault in self._of("no_pong", peer.venue):
            if fault.chooses(peer, self._random):
                fault.count()
                return False
        return True

    def skipped_ids(self, venue: str, symbol: str) -> int:
        """Return how many trade ids the `id_holes` faults leave unused before the next trades of a market.

        Each of these faults strikes a market at most once in `every` (its parameter) seconds.
        """
        skipped = 0
        now = time.monotonic()
        for fault in self._of("id_holes", venue, symbol):
            key = (fault.number, venue, symbol)
            if now - self._gaps.get(key, 0.0) >= fault.wanted.number("every"):
                self._gaps[key] = now
                if fault.strikes(self._random):
                    fault.count()
                    skipped += int(fault.wanted.number("ids"))
        return skipped

    # Questions while REST calls are answered

    def clock_ahead(self, venue: str) -> int:
        """Return how far the `venue_clock` faults set a venue's clock ahead, in µs; negative if behind."""
        faults = list(self._of("venue_clock", venue))
        for fault in faults:
            fault.count()
        return round(sum(fault.wanted.number("ahead") for fault in faults) * 1_000_000)

    def view(self, venue: str, symbol: str) -> View:
        """Return the part of a market's trades that REST shows for this call.

        `rest_lag` hides the latest, `retention` the oldest, `rest_late_rows` some recent rows.
        """
        view = WHOLE
        for fault in self._faults:
            if fault.name not in ("rest_lag", "retention", "rest_late_rows") or not fault.hits(venue, symbol):
                continue
            if fault.strikes(self._random):
                fault.count()
                view = _narrowed(view, fault)
        return view

    def rest(self, call: RestCall, reply: RestReply) -> RestReply:
        """Return the refusal of a REST call by the first fault that strikes; `reply` if none does."""
        for fault in self._faults:
            if not fault.hits(call.venue):
                continue
            refusal = self._refusal(fault, call.venue)
            if refusal and fault.strikes(self._random):
                fault.count()
                return refusal
        return reply

    def _refusal(self, fault: Fault, venue: str) -> RestReply | None:
        seconds = self._named(fault)
        match fault.name:
            case "rest_429":
                return http_refusals.too_many(self._words[venue], seconds)
            case "rest_418":
                return http_refusals.banned(seconds)
            case "kraken_rate_limit":
                return self._words[venue].limited
            case "rest_error":
                return http_refusals.failed(self._words[venue], self._random)
            case "outage" if fault.wanted.parameters["rest"]:
                return http_refusals.unavailable()
        return None

    def rest_delay(self, call: RestCall) -> float:
        """Return the longest delay, in seconds, of the `rest_slow` faults that strike."""
        delay = 0.0
        for fault in self._of("rest_slow", call.venue):
            if fault.strikes(self._random):
                fault.count()
                delay = max(delay, fault.wanted.number("delay"))
        return delay

    # Status

    def status(self) -> dict[str, Any]:
        """Return the counts for `/admin/status`: `active` faults; `done`, kind → how often, for kinds that struck."""
        return {"active": len(self._faults), "done": dict(sorted(self.done.items()))}

    def describe(self) -> dict[str, Any]:
        """Return the reply of `GET /admin/faults`: the active faults, the counts, and the schedule's next UPCOMING.

        `in_seconds` and `left` are seconds from now.
        """
        now = time.monotonic()
        began = now if self._began is None else self._began
        self._next()
        return {
            "active": [
                {"id": one.number, **as_lines(one.wanted), "left": round(one.until - now, 3), "done": one.done}
                for one in self._faults
            ],
            "done": dict(sorted(self.done.items())),
            "upcoming": [
                {"in_seconds": round(one.at - (now - began), 3), **as_lines(one.wanted)} for one in self._upcoming
            ],
        }

    def _of(self, name: str, venue: str, symbol: str | None = None) -> list[Fault]:
        return [fault for fault in self._faults if fault.name == name and fault.hits(venue, symbol)]

    def _connection(self, peer: Peer) -> ConnectionFaults:
        connection = self._connections.get(peer.number)
        if connection is None:
            connection = self._connections[peer.number] = ConnectionFaults(
                peer, self._random, self._words[peer.venue].shutdown_notice
            )
        return connection


def _narrowed(view: View, fault: Fault) -> View:
    """The view with one more fault; of two faults that leave rows out, the later one counts."""
    number = fault.wanted.number
    if fault.name == "retention":
        kept = int(number("trades"))
        return msgspec.structs.replace(view, newest=kept if view.newest is None else min(view.newest, kept))
    if fault.name == "rest_lag":
        lag, ids = max(view.lag_micros, int(number("lag") * 1e6)), max(view.lag_ids, int(number("ids")))
        return msgspec.structs.replace(view, lag_micros=lag, lag_ids=ids)
    return msgspec.structs.replace(view, late_micros=int(number("delay") * 1e6), late_every=int(number("every")))
