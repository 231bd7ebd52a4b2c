"""What a rebuild writes into ops/batches: one row for Silver, one for Gold, which stand for all rows before them.

Each reads as a batch that read its source from the beginning up to where the stream had read. Both come in one commit,
so that no audit sees a Silver from behind the rebuild with a Gold from before it.
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


def is_booked(settings: Settings, rebuild_id: str) -> bool:
    """Whether a rebuild's rows are in ops/batches: then all else of it is written."""
    return table_io.open_table(settings, OPS_BATCHES).transaction_version(_app_id(rebuild_id)) is not None


def silver_result(settings: Settings, bronze_version: int, places: Mapping[PartitionKey, PartitionRows]) -> BatchResult:
    """Silver as it is now, of all messages of Bronze at a version."""
    tables = (SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY)
    versions = {table.path: table_io.open_table(settings, table).version() for table in tables}
    return BatchResult.of_partitions(places, _BEGINNING, _whole(bronze_version), versions)


def gold_result(settings: Settings, trades_version: int) -> BatchResult:
    """Gold as it is now, of all trades of Silver at a version."""
    return BatchResult(
        source_start=_BEGINNING,
        source_end=_whole(trades_version),
        rows_in=table_io.row_count(table_io.open_table(settings, SILVER_TRADES, trades_version)),
        rows_out=table_io.row_count(table_io.open_table(settings, GOLD_BARS_1M)),
        versions=gold_versions(settings),
    )


def book(
    settings: Settings, rebuild_id: str, run_id: str, started: dt.datetime, results: Mapping[str, BatchResult]
) -> None:
    """Write the rows of the given queries in one commit; a second time nothing."""
    newest = [batch.committed_at for query, batch in newest_batches(settings).items() if query in results]
    # Later than the rows that they stand for, whatever the clock says.
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
