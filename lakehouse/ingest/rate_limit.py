"""Keep requests within our share of a venue's REST rate limit, by a sliding window. No I/O; callers pass the time.

Guarantee: no window of the venue's length has requests of more weight than the share, wherever the window begins and
however many symbols there are. If the share is less than one request, the window is stretched until one fits: a third
of "one a second" is one in three seconds.

A venue counts requests by address, and two processes may use the same one: the ingest, and the job that repairs old
gaps. So each keeps to a share, and the shares together leave room for clocks and networks that differ.
"""

from __future__ import annotations

from collections import deque

#: The share of a venue's budget that a running ingest may use.
LIVE_SHARE = 2 / 3
#: The share of a venue's budget that `fetch_gaps` of the job `repair` may use, beside a running ingest.
JOB_SHARE = 1 / 4
#: The share of a venue's budget, within that of the ingest, for the silence probe's looks at quiet symbols.
LOOK_SHARE = 1 / 10

#: Weights are small numbers of the venue's documentation; a sum of them that is off by rounding is not over the limit.
_ROUNDING = 1e-9


class WindowBudget:
    """A `share` (0 to 1) of a venue's REST budget of `weight` per `seconds`: says when a request may be sent.

    Only one thread may call `wait` and `spend`; any may call `used`.
    """

    def __init__(self, weight: float, seconds: float, share: float) -> None:
        self._weight = weight
        self._seconds = seconds
        self._limit = weight * share
        # No request weighs more than the whole budget, so no window is stretched further than this.
        self._longest = seconds / share
        self._heaviest = 0.0
        self._spent: deque[tuple[float, float]] = deque()

    def wait(self, weight: float, now: float) -> float:
        """Return the seconds until a request of this weight may be sent; 0 if it may be now.

        Ask again after that time, as other requests may have used it. `now` is in monotonic seconds.
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
        """Count a request of this weight. Call it when the reply has come: the venue has counted it by then."""
        self._spent.append((now, weight))

    def used(self, now: float) -> float:
        """Return the share of the venue's whole budget, 0 to 1, that was spent in the window up to `now`."""
        return sum(spent for at, spent in tuple(self._spent) if at > now - self._seconds) / self._weight
