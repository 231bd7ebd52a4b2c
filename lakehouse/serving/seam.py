"""The point at which a stream goes from the lake to Kafka: how far a version of silver/trades has read Kafka."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from lakehouse.lake.batch_log import recent_batches
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES

#: Batches of each query to look at: Silver is some batches behind Bronze at most while both run.
BATCHES = 50
#: Seconds for which a seam counts as the newest: it is read once for all clients that begin.
FRESH_SECONDS = 0.5


class Seam(NamedTuple):
    """A version of silver/trades, and the offset before which it has read each partition of the topic of trades."""

    version: int
    read: dict[int, int]


def newest_seam(settings: Settings) -> Seam | None:
    """Return the seam of Silver's newest batch, by ops/batches; None if no recent batch of Bronze fits it.

    Raises TerminalError if the lake has no ops/batches.
    """
    recent = recent_batches(settings, BATCHES)
    silver = next(iter(recent.get("silver", ())), None)
    if silver is None:
        return None
    whole = silver.source_version if silver.whole else silver.source_version - 1
    for bronze in recent.get("bronze", ()):
        if bronze.version_of(BRONZE_MESSAGES.path) <= whole:
            offsets = bronze.source_end.get(settings.topic_trades, {})
            return Seam(silver.version_of(SILVER_TRADES.path), {int(at): int(end) for at, end in offsets.items()})
    return None


class Seams:
    """The newest seam of one lake, for all threads. An older seam is also right, only further behind."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._newest: Seam | None = None
        self._read_at = float("-inf")

    def newest(self) -> Seam | None:
        """Return the newest seam as `newest_seam` does, or one that was read at most FRESH_SECONDS ago."""
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                self._newest = newest_seam(self._settings)
                self._read_at = time.monotonic()
            return self._newest
