"""Find versions of the tables that belong together, backwards from Gold.

1. A gold batch that ended at a whole version of Silver names the bars' versions and that version.
2. A silver batch that ended at a whole version of Bronze, and left Silver with the same rows, names the versions of
   silver/quarantine, silver/feed_events and silver/continuity, and that version of Bronze.
3. The bronze batches up to that version name Kafka's offsets.

A batch that ended inside a version of its source cannot be compared, nor can a batch of a stream that lost its
checkpoint and is still behind its former position. Between two rebuilds silver/trades only grows, so two of its
versions with the same number of rows hold the same rows. That finds the batch even if the version was written by
maintenance, or by a run that was killed before its row in ops/batches. A rebuild writes its rows of ops/batches for
Silver and, if the trades changed, for Gold in one commit, and earlier rows are ignored: so no version from before a
rebuild is compared with one from after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse.audit.batch_history import BatchEntry, read_batch_history
from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import open_table, row_count
from lakehouse.quality.message_lineage import Versions
from lakehouse.settings import Settings
from lakehouse.tables import (
    BRONZE_MESSAGES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)

#: Most gold batches that are tried, newest first: a quarter of an hour at one batch every five seconds.
GOLD_BATCHES_BACK = 200


@dataclass(frozen=True)
class Snapshot:
    """Versions of the tables that belong together, and the entries of ops/batches up to them.

    `gold` and `silver` are the batches that left the tables at these versions; `taken_at` is the time of the search,
    UTC.
    """

    taken_at: datetime
    gold: BatchEntry
    silver: BatchEntry
    trades_version: int
    trades_rows: int
    bronze_version: int
    bronze_batches: tuple[BatchEntry, ...]
    silver_batches: tuple[BatchEntry, ...]
    gold_batches: tuple[BatchEntry, ...]

    @property
    def versions(self) -> Versions:
        """Versions of bronze/messages and of Silver's trades, quarantine and feed events."""
        return Versions(
            self.bronze_version,
            self.trades_version,
            self.silver.version_of(SILVER_QUARANTINE.path),
            self.silver.version_of(SILVER_FEED_EVENTS.path),
        )

    @property
    def continuity_version(self) -> int:
        """Version of silver/continuity, the ledger of ids."""
        return self.silver.version_of(SILVER_CONTINUITY.path)


def take(settings: Settings) -> Snapshot:
    """Take the newest snapshot. Raises TerminalError if no versions match; never returns a wrong match."""
    now = datetime.now(UTC)
    history = read_batch_history(settings)
    gold_front, silver_front = list(at_front(history["gold"])), list(at_front(history["silver"]))
    if not gold_front or not silver_front:
        lacking = "gold" if not gold_front else "silver"
        raise TerminalError(
            f"no {lacking} batch in {settings.lake} has ended at a whole version of its source",
            "one of each stream",
            "try again when the streams have come that far",
        )
    rows = _RowCounts(settings)
    for gold in list(reversed(gold_front))[:GOLD_BATCHES_BACK]:
        version = gold.position[0]
        silver = _left(version, silver_front, rows) if version >= 0 else None
        if silver is None:
            continue
        bronze_version = silver.position[0]
        return Snapshot(
            taken_at=now,
            gold=gold,
            silver=silver,
            trades_version=version,
            trades_rows=rows.at(version),
            bronze_version=bronze_version,
            bronze_batches=tuple(
                entry for entry in history["bronze"] if entry.version_of(BRONZE_MESSAGES.path) <= bronze_version
            ),
            silver_batches=_up_to(silver, history["silver"]),
            gold_batches=_up_to(gold, history["gold"]),
        )
    raise TerminalError(
        f"none of the newest {min(len(gold_front), GOLD_BATCHES_BACK):,} gold batches in {settings.lake} ended at a "
        "version of silver/trades that a whole silver batch left",
        "one that did",
        "try again when the streams have come that far",
    )


def at_front(entries: Sequence[BatchEntry]) -> Iterator[BatchEntry]:
    """Yield a query's batches that ended at the end of a source version, at the furthest position reached so far.

    So the batches of a stream that lost its checkpoint and reads its source again are left out until it has caught up.
    """
    furthest = (-1, True)
    for entry in entries:
        furthest = max(furthest, entry.position)
        if entry.position == furthest and furthest[1]:
            yield entry


class _RowCounts:
    """Numbers of rows of silver/trades at versions; each is looked up once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[int, int] = {}

    def at(self, version: int) -> int:
        if version not in self._known:
            self._known[version] = row_count(open_table(self._settings, SILVER_TRADES, version))
        return self._known[version]


def _left(version: int, silver: Sequence[BatchEntry], rows: _RowCounts) -> BatchEntry | None:
    """Return the newest silver batch that left silver/trades with the rows of `version`; None if there is none."""
    of_entry = [(entry.version_of(SILVER_TRADES.path), entry) for entry in silver]
    exact = [entry for left, entry in of_entry if left == version]
    if exact:
        return exact[-1]
    before = [(left, entry) for left, entry in of_entry if left < version]
    after = [(left, entry) for left, entry in of_entry if left > version]
    for left, entry in (*after[:1], *before[-1:]):
        if rows.at(left) == rows.at(version):
            return entry
    return None


def _up_to(last: BatchEntry, entries: Sequence[BatchEntry]) -> tuple[BatchEntry, ...]:
    return tuple(entries[: entries.index(last) + 1])
