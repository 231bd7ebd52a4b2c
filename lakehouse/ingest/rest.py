"""One venue's REST API for one thread: within the budget, out of the way when the venue says so.

Guarantee: no request leaves while the budget's window is full, before the time that a Retry-After named has passed
(for the whole venue, whichever symbol it was answered to), or before the backoff after an error has.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import httpx

from lakehouse.errors import VenueError
from lakehouse.exchanges.history import Reply, Request
from lakehouse.exchanges.retry_after import retry_after
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.backoff import LIMITED, Pauses
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.rate_limit import LOOK_SHARE, WindowBudget

_log = logging.getLogger(__name__)

#: Seconds to connect, and without a byte of the answer. A page of 1,000 trades comes within one; a venue that is slower
#: than this is in trouble, and a stop should not wait for it.
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0


class RestClient:
    """Used by one thread, which counts in `counters`."""

    def __init__(
        self,
        venue: Venue,
        base: str | None,
        share: float,
        counters: VenueCounters,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = venue.name
        self._counters = counters
        self._root = venue.rest_url(base)
        self._is_live = base is None
        self._clock = clock
        # Kraken tells a limit inside HTTP 200: every error may be one.
        self._pauses = Pauses(rng or random.Random(), LIMITED)
        limit = venue.rest_budget
        self._budget = WindowBudget(limit.weight, limit.seconds, share)
        self._looks = WindowBudget(limit.weight, limit.seconds, LOOK_SHARE)
        self._blocked_until = 0.0
        self._status, self._named = 0, 0.0  # of the last answer; seconds of its Retry-After
        self._client: httpx.Client | None = None
        counters.budget_used = lambda: self._budget.used(clock())

    def wait(self, weight: float, is_look: bool = False) -> float:
        """Seconds until a request may be sent; 0 is now. A look at a quiet symbol has its own small part besides."""
        now = self._clock()
        seconds = max(self._blocked_until - now, self._budget.wait(weight, now))
        if is_look:
            seconds = max(seconds, self._looks.wait(weight, now))
        return max(0.0, seconds)

    def get(self, request: Request, is_look: bool = False) -> Reply:
        """Send it, whether or not `wait` allowed it. Raises VenueError if no answer came.

        The reader of the answer then calls `accepted` or `refused`.
        """
        self._counters.requests += 1
        self._status, self._named = 0, 0.0
        try:
            response = self._open().get(request.path, params=request.params, headers=request.headers)
            self._status = response.status_code
            headers = {name.lower(): value for name, value in response.headers.items()}
            self._named = retry_after(headers) or 0.0
            return Reply(response.status_code, headers, response.content, time.time_ns() // 1000)
        except httpx.HTTPError as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise VenueError(f"no answer from the REST API of {self._name}: {words}") from None
        finally:
            now = self._clock()
            self._budget.spend(request.weight, now)
            if is_look:
                self._looks.spend(request.weight, now)

    def accepted(self) -> None:
        """The last answer was what was asked for: the next error begins a new series."""
        self._pauses.reset()

    def refused(self, error: VenueError) -> None:
        """The last request failed: leave the venue alone for the time it named, or for a jittered pause."""
        self._counters.refusals += 1
        # A header counts whatever the answer's body said: Kraken's errors come with bodies of their own.
        seconds = self._pauses.after(self._status, max(error.retry_after or 0.0, self._named))
        self._blocked_until = max(self._blocked_until, self._clock() + seconds)
        _log.info("%s; no request to %s for %.1f s", error, self._name, seconds)

    def close(self) -> None:
        """Close the connections. Safe at any time."""
        if self._client is not None:
            self._client.close()

    def _open(self) -> httpx.Client:
        # On first use: most ingests never miss a trade, and certificates take a while to load.
        if self._client is None:
            self._client = httpx.Client(
                base_url=self._root,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=1),
                # A simulator is on this machine: neither certificates nor the proxies of the environment matter.
                verify=self._is_live,
                trust_env=self._is_live,
            )
        return self._client
