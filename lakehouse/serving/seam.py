"""The point at which a stream goes over from the lake to Kafka: how far a version of silver/trades has read Kafka."""

from __future__ import annotations

from typing import NamedTuple

from lakehouse.lake.batch_log import recent_batches
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_TRADES

#: Batches of each query to look at: Silver is some batches behind Bronze at most while both run.
BATCHES = 50


class Seam(NamedTuple):
    """A version of silver/trades, and by partition of the topic of trades the offset up to which it has read."""

    version: int
    read: dict[int, int]


def newest_seam(settings: Settings) -> Seam | None:
    """Return the seam of Silver's newest batch, by ops/batches; None if there is no such batch of Bronze any more.

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
