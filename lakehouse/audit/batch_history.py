"""ops/batches as a whole, read once: one entry a batch, in the order of their commits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.errors import TerminalError
from lakehouse.lake.batch_log import REBUILD
from lakehouse.lake.table_io import sql
from lakehouse.settings import Settings
from lakehouse.tables import OPS_BATCHES

#: The figures of `Counts` as the column `partitions` of ops/batches calls them.
FIGURES = ("in", "out", "duplicate", "quarantined", "feed_events")


@dataclass(frozen=True)
class Counts:
    """Messages (trades, for gold) of a batch, or of one Kafka partition of it."""

    rows_in: int = 0
    out: int = 0
    duplicate: int = 0
    quarantined: int = 0
    feed_events: int = 0

    @property
    def figures(self) -> tuple[int, ...]:
        """In the order of FIGURES."""
        return self.rows_in, self.out, self.duplicate, self.quarantined, self.feed_events

    @property
    def balance(self) -> int:
        """What was read and is in none of the others; 0 where it balances."""
        return self.rows_in - self.out - self.duplicate - self.quarantined - self.feed_events

    def plus(self, other: Counts) -> Counts:
        """The sum, figure by figure."""
        return Counts(*(mine + its for mine, its in zip(self.figures, other.figures, strict=True)))


@dataclass(frozen=True)
class Entry:
    """One row of ops/batches. `start` and `end` are positions in the source, as `lakehouse.tables` describes them."""

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
        """For people."""
        return f"{self.query} batch {self.batch_id} of generation {self.generation[:8]}"

    @property
    def is_rebuild(self) -> bool:
        """Whether it is no batch of a stream but all of its layer, computed anew."""
        return self.generation.startswith(REBUILD) and self.batch_id == 0

    @property
    def position(self) -> tuple[int, bool]:
        """The last version of a Delta source that has been read, and whether all of it."""
        return int(self.end.get("version", -1)), self.end.get("complete", True) is True

    def version_of(self, table_path: str) -> int:
        """The version of a table after this batch. Raises TerminalError where the row does not name it."""
        try:
            return int(self.versions[table_path])
        except (KeyError, TypeError, ValueError):
            raise TerminalError(
                f"ops/batches, {self.name}: versions are {json.dumps(self.versions)}", f"one of {table_path}"
            ) from None


def read_books(settings: Settings) -> dict[str, list[Entry]]:
    """Query → its entries by commit time, from its newest rebuild on, which stands for all before it.

    Raises TerminalError where a row cannot be read.
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
    books: dict[str, list[Entry]] = {"bronze": [], "silver": [], "gold": []}
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            entry = _entry(row)
            if entry.is_rebuild:
                books[entry.query] = []
            books.setdefault(entry.query, []).append(entry)
    return books


def _entry(row: dict[str, Any]) -> Entry:
    name = f"ops/batches, {row['query']} batch {row['batch_id']}"
    counted = ("rows_in", "rows_out", "rows_duplicate", "rows_quarantined", "rows_feed_events")
    return Entry(
        row["query"],
        row["generation"],
        row["batch_id"],
        row["committed_at"],
        _json(name, "source_start", row["source_start"]),
        _json(name, "source_end", row["source_end"]),
        Counts(*(row[column] for column in counted)),
        _json(name, "versions", row["versions"]),
        None if row["partitions"] is None else _partitions(name, row["partitions"]),
    )


def _json(name: str, column: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TerminalError(f"{name}: {column} is {text[:80]!r}", "a JSON object")
    return value


def _partitions(name: str, text: str) -> dict[PartitionKey, Counts]:
    places = {
        (topic, number): counts
        for topic, partitions in _json(name, "partitions", text).items()
        for number, counts in partitions.items()
    }
    try:
        return {
            (topic, int(number)): Counts(*(int(counts.get(figure, 0)) for figure in FIGURES))
            for (topic, number), counts in places.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise TerminalError(f"{name}: partitions is {text[:80]!r}", "topic → partition → counts") from None
