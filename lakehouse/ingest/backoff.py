"""Exponential backoff with jitter for connections and requests, below the venues' limits. No I/O; the callers sleep.

Every delay is drawn between half of its step and the whole step, so that many clients do not try at the same time. The
lower bound keeps a series of failures below the venues' limits of connection attempts per address, whatever is drawn:
300 in 5 minutes (Binance), 150 in 10 minutes (Kraken).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

#: Seconds of the first step: short, because each second without a socket is a gap to be repaired over REST.
FIRST_SECONDS = 0.5
#: Seconds of the longest step. Half a minute is soon enough for a venue in maintenance. The worst case of one socket, a
#: healthy minute between series of failures, stays below 75 attempts in 10 minutes and 45 in 5 (a test plays it).
LONGEST_SECONDS = 30.0
#: Seconds for which a connection must have lived for its end to begin a new series of failures, with short pauses.
HEALTHY_SECONDS = 60.0
#: Seconds to stay away after a ban (418) that named no time: Binance's shortest is two minutes [documentation].
BAN_SECONDS = 120.0


class Steps(NamedTuple):
    """The bounds of a backoff, in seconds: its first step, and the longest, at which it stops growing."""

    first: float
    longest: float


#: Backoff after a limit without a Retry-After (429, 418): a venue that limits gives room again within seconds (Kraken),
#: and one attempt a minute is below every limit.
LIMITED = Steps(1.0, 60.0)
#: Backoff after a block of this address or place (403, 451): nobody moves within a minute, a firewall forgets within
#: some, and a block that was lifted is noticed within half an hour.
BLOCKED = Steps(240.0, 1800.0)
_STEPS: dict[int, Steps] = {
    HTTPStatus.FORBIDDEN: BLOCKED,
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: BLOCKED,
    HTTPStatus.IM_A_TEAPOT: LIMITED,
    HTTPStatus.TOO_MANY_REQUESTS: LIMITED,
}


def delays(
    rng: random.Random, first_seconds: float = FIRST_SECONDS, longest_seconds: float = LONGEST_SECONDS
) -> Iterator[float]:
    """Yield, without end, the seconds to wait before each next attempt in a series of failures.

    Step n is `first_seconds * 2**n`, at most `longest_seconds`; the delay is drawn from [step / 2, step]. After a
    success the caller begins a new series.
    """
    step = first_seconds
    while True:
        yield rng.uniform(step / 2, step)
        step = min(step * 2, longest_seconds)


class Pauses:
    """Says how long to wait after each failure in a row: longer after a limit or a block than after other failures.

    `steps` are the bounds of the backoff after ordinary failures.
    """

    def __init__(self, rng: random.Random, steps: Steps) -> None:
        self._rng = rng
        self._steps = steps
        self._series: dict[Steps, Iterator[float]] = {}

    def reset(self) -> None:
        """Take note of a success: the pause after the next failure is short again."""
        self._series.clear()

    def after(self, status: int = 0, named: float | None = None) -> float:
        """Return the seconds to wait after a failure with this HTTP status (0: no answer came).

        At least `named`, the seconds of the venue's Retry-After; without it at least BAN_SECONDS after 418.
        """
        steps = _STEPS.get(status, self._steps)
        least = named or (BAN_SECONDS if status == HTTPStatus.IM_A_TEAPOT else 0.0)
        if steps not in self._series:
            self._series[steps] = delays(self._rng, *steps)
        return max(next(self._series[steps]), least)
