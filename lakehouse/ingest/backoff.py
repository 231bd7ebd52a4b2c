"""When to connect again: exponential with jitter, and always below what a venue allows. Pure: it yields, others sleep.

Every delay is drawn from the upper half of its step, so that a crowd of clients spreads out and yet no step is ever
shorter than half of what it promises. That lower bound is what keeps a series of failures below the venues' limits of
connection attempts per address, whatever the dice say: 300 in 5 minutes (Binance), 150 in 10 minutes (Kraken).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

#: Seconds. The first retry comes fast: every second without a socket is a gap that has to be repaired over REST.
FIRST_SECONDS = 0.5
#: Seconds. Half a minute is soon enough for a venue in maintenance. The worst case of one socket, a healthy minute
#: between series of failures, stays below 75 attempts in 10 minutes and 45 in 5 (a test plays it).
LONGEST_SECONDS = 30.0
#: Seconds a connection must have lived before its end counts as a new trouble and not as the old one going on.
HEALTHY_SECONDS = 60.0


def delays(
    rng: random.Random, first_seconds: float = FIRST_SECONDS, longest_seconds: float = LONGEST_SECONDS
) -> Iterator[float]:
    """Endless seconds to wait before each next attempt. A healthy connection starts a new series.

    Step n is `first * 2**n`, at most `longest`; the delay lies in [step / 2, step].
    """
    step = first_seconds
    while True:
        yield rng.uniform(step / 2, step)
        step = min(step * 2, longest_seconds)
