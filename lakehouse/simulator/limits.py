"""The simulated venues' rate limits on REST calls and on connections, as if all clients had one IP address.

Guarantee: the calls that a limit admits stay within it in any window. Refused calls cost no budget; further calls while
a client should wait are counted, and if the venue bans (Binance), too many of them are answered with 418. Source:
docs/venues.md, "Limits and lifetimes"; if it has no figure, the comment says what was chosen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lakehouse.errors import SettingError
from lakehouse.simulator.faults import http_refusals
from lakehouse.simulator.faults.model import RestReply
from lakehouse.simulator.faults.words import VenueWords

#: So many calls during the wait after a refusal lead to no ban, because they may have been under way.
FORGIVEN_CALLS = 10


@dataclass(frozen=True)
class Limit:
    """One rate limit: with `sliding`, calls may weigh `amount` in total in any window of `seconds`.

    Otherwise it is a leaky bucket that holds `amount` and leaks empty in `seconds`. `ban`: seconds for which the venue
    bans a client that ignores the limit; 0 if it bans none.
    """

    amount: float
    seconds: float
    sliding: bool = True
    ban: float = 0.0


@dataclass(frozen=True)
class Limits:
    """A simulator's choice of limits: on REST calls (`rest`) and on connections (`attempts`), venue → limit.

    None stands for the venues' own limits; a mapping limits the venues in it and no others. Each amount is multiplied
    by `factor`.
    """

    rest: Mapping[str, Limit] | None = None
    #: Limits on new connections.
    attempts: Mapping[str, Limit] | None = None
    factor: float = 1.0

    def times(self, factor: float) -> Limits:
        """Return these limits with `factor` times as much allowed; 0 lifts them.

        Raises SettingError if `factor` is negative or not finite.
        """
        if not 0 <= factor < math.inf:
            raise SettingError(f"limits times {factor:g}", "0 (none) or a positive factor, 1 being the venues' own")
        return replace(self, factor=self.factor * factor)

    def in_force(self, own: Mapping[str, Limit], given: Mapping[str, Limit] | None) -> dict[str, Limit]:
        """Return venue → limit: `given`, or the venues' `own` if it is None, with each amount times the factor.

        Empty if the factor is 0.
        """
        chosen = own if given is None else given
        if not self.factor:
            return {}
        return {venue: replace(limit, amount=limit.amount * self.factor) for venue, limit in chosen.items()}


@dataclass(frozen=True)
class VenueLimits:
    """The limits that one real venue has, on REST calls (`rest`) and new connections (`attempts`); None: no limit."""

    rest: Limit | None = None
    attempts: Limit | None = None


class Meter(Protocol):
    """Measures how much of one limit is used up. Times are monotonic seconds."""

    def take(self, weight: float, now: float) -> float:
        """Take `weight` and return 0.0 if there is room; else take nothing and return the seconds until there is."""

    @property
    def peak(self) -> float:
        """The largest share of the limit that was ever used, 0 to 1."""


class Window:
    """A `Meter` that admits calls with a total weight of at most `limit.amount` in any window of `limit.seconds`."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._taken: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self.peak = 0.0

    def take(self, weight: float, now: float) -> float:
        """Take `weight` and return 0.0 if there is room; else take nothing and return the seconds until there is."""
        while self._taken and self._taken[0][0] <= now - self._limit.seconds:
            self._sum -= self._taken.popleft()[1]
        if self._sum + weight > self._limit.amount:
            freed = 0.0
            for at, earlier in self._taken:
                freed += earlier
                if self._sum - freed + weight <= self._limit.amount:
                    return at + self._limit.seconds - now
            return self._limit.seconds
        self._taken.append((now, weight))
        self._sum += weight
        self.peak = max(self.peak, self._sum / self._limit.amount)
        return 0.0


class Bucket:
    """A `Meter` that works as a leaky bucket: `limit.amount` at once, `amount / seconds` a second in the long run."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._level = 0.0
        self._at = 0.0
        self.peak = 0.0

    def take(self, weight: float, now: float) -> float:
        """Take `weight` and return 0.0 if there is room; else take nothing and return the seconds until there is."""
        leak = self._limit.amount / self._limit.seconds
        self._level = max(0.0, self._level - (now - self._at) * leak)
        self._at = now
        excess = self._level + weight - self._limit.amount
        if excess > 0:
            return excess / leak
        self._level += weight
        self.peak = max(self.peak, self._level / self._limit.amount)
        return 0.0


class Gate:
    """Admits or refuses the calls to one venue under one limit (None: admits all), bans, and counts for the status."""

    def __init__(self, limit: Limit | None) -> None:
        self._limit = limit
        self._meter: Meter | None = (Window if limit.sliding else Bucket)(limit) if limit else None
        self.calls = 0
        self.weight = 0.0
        self.limited = 0
        self.banned = 0
        self._penalty_until = 0.0
        self._ignored = 0
        self._ban_until = 0.0

    def take(self, weight: float, now: float) -> tuple[float, bool]:
        """Admit or refuse a call of this weight; return (seconds to wait, True if banned), (0.0, False) if admitted.

        `now` is in monotonic seconds.
        """
        self.calls += 1
        if now < self._ban_until:
            self.banned += 1
            return self._ban_until - now, True
        wait = self._meter.take(weight, now) if self._meter else 0.0
        if wait <= 0:
            self.weight += weight
            return 0.0, False
        self.limited += 1
        if now < self._penalty_until:
            self._ignored += 1
        else:
            self._penalty_until, self._ignored = now + wait, 0
        if self._limit and self._limit.ban and self._ignored > FORGIVEN_CALLS:
            self._ban_until = now + self._limit.ban
            self._ignored = 0
            return self._limit.ban, True
        return wait, False

    @property
    def peak(self) -> float:
        """The largest share of the limit that was ever used, 0 to 1; 0 if there is no limit."""
        return round(self._meter.peak, 4) if self._meter else 0.0


class Gates:
    """All limits of one simulator: for each venue a `Gate` for REST calls and one for new connections.

    `own` are the venues' own limits, `limits` says which are in force, `words` are the texts of refusals.
    """

    def __init__(self, limits: Limits, own: Mapping[str, VenueLimits], words: Mapping[str, VenueWords]) -> None:
        rest = limits.in_force({venue: one.rest for venue, one in own.items() if one.rest}, limits.rest)
        attempts = limits.in_force({venue: one.attempts for venue, one in own.items() if one.attempts}, limits.attempts)
        self._words = words
        self._rest = {venue: Gate(rest.get(venue)) for venue in own}
        self._attempts = {venue: Gate(attempts.get(venue)) for venue in own}

    def call(self, venue: str, weight: float, now: float) -> RestReply | None:
        """Count a REST call of this weight and return its refusal, an HTTP reply; None if it may be answered.

        `now` is in monotonic seconds.
        """
        gate = self._rest.get(venue)
        wait, is_ban = gate.take(weight, now) if gate else (0.0, False)
        if not wait:
            return None
        if is_ban:
            return http_refusals.banned(wait)
        words = self._words[venue]
        return words.limited or http_refusals.too_many(words, wait)

    def attempt(self, venue: str, now: float) -> float:
        """Count an attempt to connect; return 0.0 if it is admitted, else the seconds to wait.

        `now` is in monotonic seconds.
        """
        gate = self._attempts.get(venue)
        return gate.take(1.0, now)[0] if gate else 0.0

    def status(self) -> dict[str, Any]:
        """Return the counts for `/admin/status`. `rest`: venue → counts of REST calls; `attempts`: of new connections.

        Counts of `rest`: `calls`, those refused included; the admitted `weight`; the refusals, `limited` and `banned`.
        Counts of `attempts`: those `made`, refused ones included, and `refused`. Both have `peak_share`, the largest
        share of the limit that was ever used, 0 to 1.
        """
        return {
            "rest": {
                venue: {
                    "calls": gate.calls,
                    "weight": round(gate.weight),
                    "limited": gate.limited,
                    "banned": gate.banned,
                    "peak_share": gate.peak,
                }
                for venue, gate in self._rest.items()
            },
            "attempts": {
                venue: {"made": gate.calls, "refused": gate.limited + gate.banned, "peak_share": gate.peak}
                for venue, gate in self._attempts.items()
            },
        }
