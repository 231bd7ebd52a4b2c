"""The history of batches, ops/batches, read once: one entry per batch, in the order of their commits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.errors import TerminalError
from lakehouse.lake.batch_log import REBUILD, json_object
from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES

#: Names of the figures of `Counts` in the column `partitions` of ops/batches.
FIGURES = ("in", "out", "duplicate", "quarantined", "feed_events")


@dataclass(frozen=True)
class Counts:
    """Numbers of messages of a batch, or of a Kafka partition in a batch, by what became of the messages.

    For gold `rows_in` counts trades read and `out` one-minute bars written, so these two need not be equal.
    """

    rows_in: int = 0
    out: int = 0
    duplicate: int = 0
    quarantined: int = 0
    feed_events: int = 0

    @property
    def figures(self) -> tuple[int, ...]:
        """The five numbers rows_in, out, duplicate, quarantined, feed_events: the order of FIGURES."""
        return self.rows_in, self.out, self.duplicate, self.quarantined, self.feed_events

    @property
    def balance(self) -> int:
        """Messages that were read and are in none of the other figures; 0 if the batch balances."""
        return self.rows_in - self.out - self.duplicate - self.quarantined - self.feed_events

    def plus(self, other: Counts) -> Counts:
        """Return the sum of two counts, figure by figure."""
        return Counts(*(mine + its for mine, its in zip(self.figures, other.figures, strict=True)))


@dataclass(frozen=True)
class BatchEntry:
    """One row of ops/batches. `start` and `end` are positions in the source, as `lakehouse.tables` describes them.

    `partitions` is None if the row has no counts by partition, as for gold.
    """

    query: str
    generation: str
    batch_id: int
    committed_at: datetime
    start: dict[str, Any]
    end: dict[str, Any]
    counts: Counts
    versions: dict[str, int]
    partitions: dict[PartitionKey, Counts] | None

    @property
    def name(self) -> str:
        """Query, batch id and the first 8 characters of the generation, to name the batch in a sentence."""
        return f"{self.query} batch {self.batch_id} of generation {self.generation[:8]}"

    @property
    def is_rebuild(self) -> bool:
        """True for the row of a rebuild, which replaces the query's earlier rows; False for a batch of a stream."""
        return self.generation.startswith(REBUILD) and self.batch_id == 0

    @property
    def position(self) -> tuple[int, bool]:
        """Last version of the Delta source that was read (−1 if none), and True if all of that version was read."""
        return int(self.end.get("version", -1)), self.end.get("complete", True) is True

    def version_of(self, table_path: str) -> int:
        """Return the version of a table after this batch. Raises TerminalError if the row does not name it."""
        try:
            return int(self.versions[table_path])
        except (KeyError, TypeError, ValueError):
            raise TerminalError(
                f"ops/batches, {self.name}: versions are {json.dumps(self.versions)}", f"one of {table_path}"
            ) from None


def read_batch_history(settings: Settings) -> dict[str, list[BatchEntry]]:
    """Read ops/batches: query → its entries, ordered by commit time, from the query's newest rebuild on.

    The keys bronze, silver and gold are always there. Raises TerminalError if a row cannot be read, or if there is no
    ops/batches.
    """
    rows = sql(
        settings,
        """
        SELECT query, generation, batch_id, committed_at, source_start, source_end, rows_in, rows_out, rows_duplicate,
               rows_quarantined, rows_feed_events, versions, partitions
        FROM batches ORDER BY committed_at, batch_id
        """,
        batches=OPS_BATCHES,
    )
    history: dict[str, list[BatchEntry]] = {"bronze": [], "silver": [], "gold": []}
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            entry = _entry(row)
            if entry.is_rebuild:
                history[entry.query] = []
            history.setdefault(entry.query, []).append(entry)
    return history


def _entry(row: dict[str, Any]) -> BatchEntry:
    name = f"ops/batches, {row['query']} batch {row['batch_id']}"
    counted = ("rows_in", "rows_out", "rows_duplicate", "rows_quarantined", "rows_feed_events")
    return BatchEntry(
        row["query"],
        row["generation"],
        row["batch_id"],
        row["committed_at"],
        json_object(row["source_start"], "source_start", name),
        json_object(row["source_end"], "source_end", name),
        Counts(*(row[column] for column in counted)),
        json_object(row["versions"], "versions", name),
        None if row["partitions"] is None else _partitions(name, row["partitions"]),
    )


def _partitions(name: str, text: str) -> dict[PartitionKey, Counts]:
    places = {
        (topic, number): counts
        for topic, partitions in json_object(text, "partitions", name).items()
        for number, counts in partitions.items()
    }
    try:
        return {
            (topic, int(number)): Counts(*(int(counts.get(figure, 0)) for figure in FIGURES))
            for (topic, number), counts in places.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise TerminalError(f"{name}: partitions is {text[:80]!r}", "topic → partition → counts") from None
