"""Progress of the streams: positions that were read, contents of the tables, messages and rows ahead. No JVM."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from lakehouse.errors import BrokerUnavailableError
from lakehouse.lake import lag, table_io
from lakehouse.lake.batch_log import newest_batches
from lakehouse.lake.lag import Offsets
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchReport
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)

#: Seconds that a broker has to tell its offsets; a local one needs 0.05.
KAFKA_SECONDS = 5.0

#: Layer → the table whose rows its batches count; layer → the table that it reads (Bronze reads Kafka).
MAIN: dict[str, Table] = {"bronze": BRONZE_MESSAGES, "silver": SILVER_TRADES, "gold": GOLD_BARS_1M}
READS: dict[str, Table] = {"silver": BRONZE_MESSAGES, "gold": SILVER_TRADES}


@dataclass(frozen=True)
class TableProgress:
    """Progress of a table, as far as this process knows it.

    `rows_added` and `batches` count this process's; `rows_added` is 0 for silver/continuity, whose rows grow and join
    instead of being added, and for the tables of Gold but gold/bars_1m. `lag` counts the messages (Bronze) or rows of
    the source that have not been read yet, None if Kafka does not answer. `kafka_offsets` is None but for Bronze.
    """

    table_path: str
    rows: int
    version: int
    rows_added: int
    batches: int
    kafka_offsets: Offsets | None
    lag: int | None
    last_commit: dt.datetime | None


@dataclass
class LayerCounter:
    """Counts of this process's batches of one layer; `added` has rows by table path."""

    batches: int = 0
    added: dict[str, int] = field(default_factory=dict)
    last_commit: dt.datetime | None = None

    def count(self, report: BatchReport) -> None:
        """Add a committed batch."""
        result = report.result
        main = MAIN[report.query].path
        self.batches += 1
        self.last_commit = report.committed_at
        for path, rows in (
            (main, result.rows_out),
            (SILVER_QUARANTINE.path, result.rows_quarantined),
            (SILVER_FEED_EVENTS.path, result.rows_feed_events),
        ):
            self.added[path] = self.added.get(path, 0) + rows


def last_position(settings: Settings, layer: str) -> dict[str, Any] | None:
    """Return `source_end` of a layer's newest batch in ops/batches, None if it has none."""
    batch = newest_batches(settings).get(layer)
    return batch.source_end if batch else None


def kafka_end(settings: Settings) -> Offsets:
    """Ask Kafka for topic → partition → the offset that the next message will get.

    Raises BrokerUnavailableError if no broker answers within KAFKA_SECONDS.
    """
    return lag.end_offsets(settings.bootstrap(), settings.topics, KAFKA_SECONDS)


def newest_position(settings: Settings, layer: str) -> dict[str, Any]:
    """Return the position at which a layer's source ends at this moment.

    Raises BrokerUnavailableError for Bronze if Kafka does not answer.
    """
    if layer == "bronze":
        return kafka_end(settings)
    return {"version": table_io.open_table(settings, READS[layer]).version()}


def has_passed(position: dict[str, Any] | None, target: dict[str, Any], layer: str) -> bool:
    """Return True if a layer that has come to `position` (None: it has no batch) has read its source up to `target`."""
    if layer != "bronze":
        reached = -1 if position is None else int(position["version"])
        return reached > target["version"] or (reached == target["version"] and bool((position or {})["complete"]))
    read: dict[str, dict[str, int]] = position or {}
    return all(
        read.get(topic, {}).get(number, 0) >= offset
        for topic, partitions in target.items()
        for number, offset in partitions.items()
    )


def source_lag(settings: Settings, layer: str) -> int | None:
    """Count the messages or source rows that a layer has not read yet; None if Kafka does not answer."""
    batch = newest_batches(settings).get(layer)
    if layer != "bronze":
        return lag.rows_behind(settings, READS[layer], batch)
    try:
        return lag.kafka_lag(kafka_end(settings), batch)
    except BrokerUnavailableError:
        return None


def layer_progress(settings: Settings, layer: str, counter: LayerCounter) -> dict[str, TableProgress]:
    """Return table path → progress for every table that a layer writes; `counter` has this process's counts for it."""
    behind = source_lag(settings, layer)
    offsets = last_position(settings, layer) if layer == "bronze" else None
    result: dict[str, TableProgress] = {}
    for table in table_io.active_tables(settings):
        if table.layer != layer:
            continue
        opened = table_io.open_table(settings, table)
        result[table.path] = TableProgress(
            table.path,
            table_io.row_count(opened),
            opened.version(),
            counter.added.get(table.path, 0),
            counter.batches,
            offsets,
            behind,
            counter.last_commit,
        )
    return result
