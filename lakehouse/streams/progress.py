"""How far the streams are: what was read, what stands in the tables, what lies ahead. No JVM."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

from lakehouse import lake
from lakehouse.broker.topics import end_offsets
from lakehouse.errors import BrokerUnavailableError
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchReport
from lakehouse.streams.checkpoints import Offsets
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    OPS_BATCHES,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)

#: Which tables a layer's query writes, and which table it reads (Bronze reads Kafka).
WRITES: dict[str, tuple[Table, ...]] = {
    "bronze": (BRONZE_MESSAGES,),
    "silver": (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS),
    "gold": (GOLD_BARS_1M, GOLD_BARS_5M),
}
READS: dict[str, Table] = {"silver": BRONZE_MESSAGES, "gold": SILVER_TRADES}


@dataclass(frozen=True)
class TableProgress:
    """How far a table is. `lag` counts messages (Bronze) or rows of the source that have not been read yet."""

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
    """What this process's batches of one layer have done so far."""

    batches: int = 0
    added: dict[str, int] = field(default_factory=dict)
    last_commit: dt.datetime | None = None

    def count(self, report: BatchReport) -> None:
        """Add a committed batch."""
        result = report.result
        main = WRITES[report.query][0].path
        self.batches += 1
        self.last_commit = report.committed_at
        for path, rows in (
            (main, result.rows_out),
            (SILVER_QUARANTINE.path, result.rows_quarantined),
            (SILVER_FEED_EVENTS.path, result.rows_feed_events),
        ):
            self.added[path] = self.added.get(path, 0) + rows


def last_position(settings: Settings, layer: str) -> dict[str, Any] | None:
    """`source_end` of a layer's newest batch in ops/batches, None where it has none."""
    rows = lake.sql(
        settings,
        f"SELECT source_end FROM batches WHERE query = '{layer}' ORDER BY committed_at DESC, batch_id DESC LIMIT 1",
        batches=OPS_BATCHES,
    ).to_pylist()
    return dict(json.loads(rows[0]["source_end"])) if rows else None


def kafka_end(settings: Settings) -> Offsets:
    """Topic → partition → the offset that the next message will get."""
    ends = end_offsets(settings.bootstrap(), settings.topics)
    return {topic: {str(number): offset for number, offset in partitions.items()} for topic, partitions in ends.items()}


def lag(settings: Settings, layer: str) -> int | None:
    """Messages or source rows that a layer has not read yet; None where Kafka does not answer."""
    position = last_position(settings, layer)
    if layer == "bronze":
        try:
            ends = kafka_end(settings)
        except BrokerUnavailableError:
            return None
        read: Offsets = position or {}
        return sum(
            max(0, offset - read.get(topic, {}).get(number, 0))
            for topic, partitions in ends.items()
            for number, offset in partitions.items()
        )
    source = lake.open_table(settings, READS[layer])
    total = lake.row_count(source)
    if position is None or position["version"] < 0:
        return total
    if position["version"] >= source.version():
        return 0
    return total - lake.row_count(lake.open_table(settings, READS[layer], version=position["version"]))


def layer_progress(settings: Settings, layer: str, counter: LayerCounter) -> dict[str, TableProgress]:
    """The progress of every table that a layer writes."""
    behind = lag(settings, layer)
    offsets = last_position(settings, layer) if layer == "bronze" else None
    result: dict[str, TableProgress] = {}
    for table in WRITES[layer]:
        opened = lake.open_table(settings, table)
        result[table.path] = TableProgress(
            table.path,
            lake.row_count(opened),
            opened.version(),
            counter.added.get(table.path, 0),
            counter.batches,
            offsets,
            behind,
            counter.last_commit,
        )
    return result
