"""A venue's request budget, kept as a sliding window. Pure: it is told the time.

Guarantee: in no window of the venue's length is more spent than the share, wherever the window begins and however many
symbols there are. If the share is less than one request, the window is stretched until one fits: a third of
"one a second" is one in three seconds.

A venue counts by address, and two of ours may run at once from one: the ingest, and the job that repairs old gaps. So
each keeps to a share, and the shares together leave room for clocks and networks that differ.
"""

from __future__ import annotations

from collections import deque

#: Share of the venue's budget: the running ingest.
LIVE_SHARE = 2 / 3
#: Share of the venue's budget: `fetch_gaps`, beside a running ingest.
JOB_SHARE = 1 / 4
#: Share of the venue's budget, and part of the ingest's share: the looks at quiet symbols.
LOOK_SHARE = 1 / 10

#: Weights are small numbers of the venue's documentation; a sum of them that is off by rounding is not over the limit.
_ROUNDING = 1e-9


class WindowBudget:
    """A budget of `weight` per `seconds`. One thread spends; `used` may be read by any."""

    def __init__(self, weight: float, seconds: float, share: float) -> None:
        self._weight = weight
        self._seconds = seconds
        self._limit = weight * share
        # No request weighs more than the whole budget, so no window is stretched further than this.
        self._longest = seconds / share
        self._heaviest = 0.0
        self._spent: deque[tuple[float, float]] = deque()

    def wait(self, weight: float, now: float) -> float:
        """Seconds until so much may be spent; 0 if at once. `now` in seconds of a clock that never jumps.

        To be asked again after that time: it may have been spent on something else.
        """
        while self._spent and self._spent[0][0] <= now - self._longest:
            self._spent.popleft()
        self._heaviest = max(self._heaviest, weight)
        room = max(self._limit, self._heaviest) - weight
        window = self._seconds * max(1.0, self._heaviest / self._limit)
        inside = [(at, spent) for at, spent in self._spent if at > now - window]
        over = sum(spent for _, spent in inside) - room
        for at, spent in inside:
            if over <= _ROUNDING:
                break
            over -= spent
            wait = at + window - now
            if over <= _ROUNDING:
                return wait
        return 0.0

    def spend(self, weight: float, now: float) -> None:
        """A request was made. To be told when it has ended: the venue had counted it by then, in any case."""
        self._spent.append((now, weight))

    def used(self, now: float) -> float:
        """Share of the venue's whole budget that was spent in the window up to now."""
        return sum(spent for at, spent in tuple(self._spent) if at > now - self._seconds) / self._weight
