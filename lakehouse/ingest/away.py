"""How long a feed stays away from a venue that it has no socket of, or that refused it another one."""

from __future__ import annotations

import logging
import random
import time
from datetime import UTC, datetime, timedelta

from lakehouse.ingest.backoff import FIRST_SECONDS, HEALTHY_SECONDS, LONGEST_SECONDS, Pauses, Steps
from lakehouse.ingest.connection import HandshakeRefusedError

_log = logging.getLogger(__name__)

#: Seconds. A longer absence is worth a line of its own in the log; a shorter one is over before it is read.
LONG_SECONDS = 60.0


class Away:
    """When a venue may be asked for a socket again. Belongs to the feed's thread."""

    def __init__(self, venue: str, rng: random.Random) -> None:
        self.words = ""  #: the refusal that it is about, and when the next attempt is; empty for a mere lost connection
        self._venue = venue
        self._pauses = Pauses(rng, Steps(FIRST_SECONDS, LONGEST_SECONDS))
        self._until = 0.0

    @property
    def left(self) -> float:
        """Seconds until the next attempt; 0 is now."""
        return max(0.0, self._until - time.monotonic())

    def begin(self, lived: float, refused: HandshakeRefusedError | None) -> None:
        """A socket has ended that lived for so many seconds, or whose handshake was refused."""
        if lived >= HEALTHY_SECONDS:
            self._pauses.reset()
        seconds = self._pauses.after(refused.status, refused.retry_after) if refused else self._pauses.after()
        if not self.left:
            self.words = ""
        self._until = max(self._until, time.monotonic() + seconds)  # a refused successor's time counts on
        if refused:
            self.words = f"{refused}; next attempt at {datetime.now(UTC) + timedelta(seconds=self.left):%H:%M:%S} UTC"
            _log.log(logging.WARNING if seconds >= LONG_SECONDS else logging.INFO, "%s: %s", self._venue, self.words)
