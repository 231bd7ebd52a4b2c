"""Rows that a rebuild writes into ops/batches: one for Silver and one for Gold, which replace all rows before them.

Each looks like a batch that read its source from the beginning to the stream's position. Both come in one commit, so
that no audit combines a Silver from after the rebuild with a Gold from before it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from lakehouse.broker.offset_ranges import PartitionKey
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import REBUILD, newest_batches
from lakehouse.settings import Settings
from lakehouse.streams.batch import BatchResult, PartitionRows, ledger_row
from lakehouse.streams.gold import gold_versions
from lakehouse.tables import (
    GOLD_BARS_1M,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
)

_BEGINNING = {"version": -1, "complete": True}


def is_recorded(settings: Settings, rebuild_id: str) -> bool:
    """True if a rebuild's rows are in ops/batches, which means that everything else of it is written."""
    return table_io.open_table(settings, OPS_BATCHES).transaction_version(_app_id(rebuild_id)) is not None


def silver_result(settings: Settings, bronze_version: int, places: Mapping[PartitionKey, PartitionRows]) -> BatchResult:
    """Make Silver's row of ops/batches: it read all of Bronze up to a version, and left the tables as they are now.

    `places` counts what became of the messages of each Kafka partition.
    """
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    versions = {table.path: table_io.open_table(settings, table).version() for table in tables}
    return BatchResult.of_partitions(places, _BEGINNING, _whole(bronze_version), versions)


def gold_result(settings: Settings, trades_version: int) -> BatchResult:
    """Make Gold's row of ops/batches: it read all of Silver's trades at a version, and left the tables as they are."""
    return BatchResult(
        source_start=_BEGINNING,
        source_end=_whole(trades_version),
        rows_in=table_io.row_count(table_io.open_table(settings, SILVER_TRADES, trades_version)),
        rows_out=table_io.row_count(table_io.open_table(settings, GOLD_BARS_1M)),
        versions=gold_versions(settings),
    )


def record_batches(
    settings: Settings, rebuild_id: str, run_id: str, started: dt.datetime, results: Mapping[str, BatchResult]
) -> None:
    """Append a row for each query in `results` to ops/batches, in one commit, as batch 0 of the rebuild's generation.

    A second call for the same `rebuild_id` writes nothing. `started` is the start of the rebuild.
    """
    newest = [batch.committed_at for query, batch in newest_batches(settings).items() if query in results]
    # Later than the rows that they replace, even if the clock was set back.
    committed = max([dt.datetime.now(dt.UTC), *(at + dt.timedelta(microseconds=1) for at in newest)])
    rows: list[dict[str, Any]] = [
        ledger_row(query, f"{REBUILD}{rebuild_id}", 0, run_id, (started, committed), result)
        for query, result in results.items()
    ]
    table_io.append_rows(settings, OPS_BATCHES, rows, (_app_id(rebuild_id), 0))


def _whole(version: int) -> dict[str, Any]:
    return {"version": version, "complete": True}


def _app_id(rebuild_id: str) -> str:
    return f"lakehouse/{REBUILD}{rebuild_id}"
