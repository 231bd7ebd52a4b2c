"""The common parts of every micro-batch: its identity, its row in ops/batches, its report to listeners.

Guarantee: one row in ops/batches per (query, generation, batch), also if a batch runs again after a crash: Delta skips
a transaction id that the table has taken. The row is written after the batch's tables and before Spark commits the
batch.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from typing import Any

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.lake import table_io, transactions
from lakehouse.lake.batch_log import newest_batches
from lakehouse.settings import Settings
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.tables import OPS_BATCHES, Table


@dataclass(frozen=True)
class PartitionRows:
    """Counts of one Kafka partition's messages in a batch, by where they ended; `rows_in` is the sum of the others."""

    rows_in: int
    out: int
    duplicate: int = 0
    quarantined: int = 0
    feed_events: int = 0

    def __add__(self, other: PartitionRows) -> PartitionRows:
        return PartitionRows(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


def rows_by_place(
    trades: Mapping[PartitionKey, int],
    added: Mapping[PartitionKey, int],
    conflicts: Mapping[PartitionKey, int],
    quarantined: Mapping[PartitionKey, int],
    feed_events: Mapping[PartitionKey, int],
) -> dict[PartitionKey, PartitionRows]:
    """Count every message of a Silver batch by where it ended, for each Kafka topic and partition.

    `trades` counts the messages that are good trades, `added` and `conflicts` those of them that are in silver/trades
    and in quarantine; the other trades are duplicates. `quarantined` counts the messages in quarantine that are no good
    trades.
    """
    result: dict[PartitionKey, PartitionRows] = {}
    for place in sorted({*trades, *quarantined, *feed_events}):
        good, out, conflicting = trades.get(place, 0), added.get(place, 0), conflicts.get(place, 0)
        result[place] = PartitionRows(
            rows_in=good + quarantined.get(place, 0) + feed_events.get(place, 0),
            out=out,
            duplicate=good - out - conflicting,
            quarantined=quarantined.get(place, 0) + conflicting,
            feed_events=feed_events.get(place, 0),
        )
    return result


@dataclass(frozen=True)
class BatchResult:
    """Result of one batch.

    `source_start` and `source_end` are positions in the source, as JSON values. `versions` has the version of each
    table, by path, after the batch.
    """

    source_start: dict[str, Any]
    source_end: dict[str, Any]
    rows_in: int
    rows_out: int
    rows_duplicate: int = 0
    rows_quarantined: int = 0
    rows_feed_events: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    partitions: dict[str, dict[str, dict[str, int]]] | None = None  #: topic → partition → rows; None for gold

    @classmethod
    def of_partitions(
        cls,
        places: Mapping[PartitionKey, PartitionRows],
        source_start: dict[str, Any],
        source_end: dict[str, Any],
        versions: dict[str, int],
    ) -> BatchResult:
        """Make the result of a batch of Kafka messages; its totals are the sums of the rows of all `places`."""
        partitions: dict[str, dict[str, dict[str, int]]] = {}
        for (topic, number), rows in places.items():
            counts = asdict(rows)
            partitions.setdefault(topic, {})[str(number)] = {"in": counts.pop("rows_in"), **counts}
        return cls(
            source_start,
            source_end,
            rows_in=sum(rows.rows_in for rows in places.values()),
            rows_out=sum(rows.out for rows in places.values()),
            rows_duplicate=sum(rows.duplicate for rows in places.values()),
            rows_quarantined=sum(rows.quarantined for rows in places.values()),
            rows_feed_events=sum(rows.feed_events for rows in places.values()),
            versions=versions,
            partitions=partitions,
        )


@dataclass(frozen=True)
class BatchReport:
    """A batch whose tables and row in ops/batches are written, as handed to listeners in this process."""

    query: str
    batch_id: int
    committed_at: dt.datetime
    result: BatchResult


Listener = Callable[[BatchReport], None]


@dataclass(frozen=True)
class BatchContext:
    """One query's identity: the same for all of its batches."""

    settings: Settings
    query: str
    checkpoint: Checkpoint
    generation: str
    pending_batch: int | None
    run_id: str
    listener: Listener

    def app_id(self, table: Table) -> str:
        """Return Delta's application id for this query's appends to a table."""
        return f"lakehouse/{self.query}/{table.path}/{self.generation}"

    def run(self, batch_id: int, body: Callable[[], BatchResult]) -> None:
        """Run one batch: `body` writes its tables, then its row goes into ops/batches, then the listener is told.

        Spark commits the batch after that. If `body` raises an error, nothing else is done, and the error goes on.
        """
        started = dt.datetime.now(dt.UTC)
        result = body()
        # A batch's time is later than that of the batch before, whatever the clock says: it tells the newest row.
        committed = max(dt.datetime.now(dt.UTC), self._committed[0] + dt.timedelta(microseconds=1))
        row = ledger_row(self.query, self.generation, batch_id, self.run_id, (started, committed), result)
        table_io.append_rows(
            self.settings, OPS_BATCHES, [row], (f"lakehouse/ops/{self.query}/{self.generation}", batch_id)
        )
        self._committed[0] = committed
        self.listener(BatchReport(self.query, batch_id, committed, result))

    @cached_property
    def _committed(self) -> list[dt.datetime]:
        """The time at which this query's newest batch was committed, as the only item of a list that `run` changes."""
        newest = newest_batches(self.settings).get(self.query)
        return [newest.committed_at if newest else dt.datetime.min.replace(tzinfo=dt.UTC)]


def ledger_row(
    query: str,
    generation: str,
    batch_id: int,
    run_id: str,
    times: tuple[dt.datetime, dt.datetime],
    result: BatchResult,
) -> dict[str, Any]:
    """Make a row of ops/batches; `times` are the start and the end of the batch."""
    started, committed = times
    return {
        "query": query,
        "generation": generation,
        "batch_id": batch_id,
        "run_id": run_id,
        "started_at": started,
        "committed_at": committed,
        "source_start": json.dumps(result.source_start, sort_keys=True),
        "source_end": json.dumps(result.source_end, sort_keys=True),
        "rows_in": result.rows_in,
        "rows_out": result.rows_out,
        "rows_duplicate": result.rows_duplicate,
        "rows_quarantined": result.rows_quarantined,
        "rows_feed_events": result.rows_feed_events,
        "versions": json.dumps(result.versions, sort_keys=True),
        "partitions": None if result.partitions is None else json.dumps(result.partitions, sort_keys=True),
        "batch_date": committed.date(),
    }


def committed_batch(settings: Settings, table: Table, app_id: str) -> int | None:
    """Return the newest batch of an application that a table has already taken, None if it has taken none."""
    return transactions.taken(table_io.table_uri(settings, table), table_io.open_table(settings, table), app_id)
