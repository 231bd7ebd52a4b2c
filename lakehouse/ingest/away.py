"""Decide how long a feed waits before its next connection, after its socket ended or the venue refused a handshake."""

from __future__ import annotations

import logging
import random
import time
from datetime import UTC, datetime, timedelta

from lakehouse.ingest.backoff import FIRST_SECONDS, HEALTHY_SECONDS, LONGEST_SECONDS, Pauses, Steps
from lakehouse.ingest.connection import HandshakeRefusedError

_log = logging.getLogger(__name__)

#: Seconds. A wait this long is logged as a warning; a shorter one is over before it is read.
LONG_SECONDS = 60.0


class Away:
    """The wait before a feed's next connection to its venue: begun by `begin`, over if `left` is 0.

    Belongs to the feed's thread.
    """

    def __init__(self, venue: str, rng: random.Random) -> None:
        self.words = ""  #: the venue's refusal and the time of the next attempt; empty after a mere lost connection
        self._venue = venue
        self._pauses = Pauses(rng, Steps(FIRST_SECONDS, LONGEST_SECONDS))
        self._until = 0.0

    @property
    def left(self) -> float:
        """Seconds until the next connection may be tried; 0 if it may be now."""
        return max(0.0, self._until - time.monotonic())

    def begin(self, lived: float, refused: HandshakeRefusedError | None) -> None:
        """Begin to wait, because a socket ended after `lived` seconds, or because the venue `refused` its handshake.

        The wait grows with each failure in a row (a socket that lived HEALTHY_SECONDS ends the row), and lasts at least
        the Retry-After of a refusal.
        """
        if lived >= HEALTHY_SECONDS:
            self._pauses.reset()
        seconds = self._pauses.after(refused.status, refused.retry_after) if refused else self._pauses.after()
        if not self.left:
            self.words = ""
        self._until = max(self._until, time.monotonic() + seconds)  # the wait of a refused successor still holds
        if refused:
            self.words = f"{refused}; next attempt at {datetime.now(UTC) + timedelta(seconds=self.left):%H:%M:%S} UTC"
            _log.log(logging.WARNING if seconds >= LONG_SECONDS else logging.INFO, "%s: %s", self._venue, self.words)
