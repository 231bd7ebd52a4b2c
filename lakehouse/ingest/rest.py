"""Send requests to one venue's REST API, within our share of its rate limit, and pause after errors.

Guarantee, if the caller obeys `wait`: no request is sent while the budget's window is full, before a Retry-After has
passed (it holds for the whole venue, not for one symbol), or during the backoff after an error.
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

#: Most seconds to connect, and most seconds without a byte of the answer. A page of 1,000 trades comes within one
#: second; a venue that is slower than this is in trouble, and a stop should not wait for it.
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0


class RestClient:
    """The REST API of one venue for one thread, which asks `wait`, calls `get`, then `accepted` or `refused`.

    `base` is the root address of a simulator, None for the live venue; `share` is the part of the venue's budget that
    may be used. Requests are counted in `counters`.
    """

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
        """Return the seconds until a request of this weight may be sent; 0 if it may be now.

        `is_look`: the request is the silence probe's, which has a small share of the budget of its own.
        """
        now = self._clock()
        seconds = max(self._blocked_until - now, self._budget.wait(weight, now))
        if is_look:
            seconds = max(seconds, self._looks.wait(weight, now))
        return max(0.0, seconds)

    def get(self, request: Request, is_look: bool = False) -> Reply:
        """Send a request, whether or not `wait` allows it, and return the reply of any status.

        The caller, who parses the reply, then calls `accepted` or `refused`. Raises VenueError if no reply came.
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
        """Take note that the last reply could be used: the pause after the next error is short again."""
        self._pauses.reset()

    def refused(self, error: VenueError) -> None:
        """Take note that the last request failed: `wait` then allows no request for a while.

        That is the time of the venue's Retry-After or of a backoff, whichever is longer. The backoff has jitter, and
        grows with each failure in a row.
        """
        self._counters.refusals += 1
        # A header counts whatever the answer's body said: Kraken's errors come with bodies of their own.
        seconds = self._pauses.after(self._status, max(error.retry_after or 0.0, self._named))
        self._blocked_until = max(self._blocked_until, self._clock() + seconds)
        _log.info("%s; no request to %s for %.1f s", error, self._name, seconds)

    def close(self) -> None:
        """Close the connection to the venue. May be called at any time."""
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
