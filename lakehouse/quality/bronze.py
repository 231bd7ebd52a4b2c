"""Checks of bronze/messages: the offsets prove that no Kafka message is missing and none is there twice."""

from __future__ import annotations

from typing import Any

from lakehouse.lake import open_table, sql
from lakehouse.ledger import Batch, newest_batches
from lakehouse.quality.model import CheckResult, Figure, always_a_verdict, count_of, where_recent
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES


@always_a_verdict
def offsets_contiguous(settings: Settings, recent: bool) -> CheckResult:
    """Per topic and partition: rows = distinct offsets = last offset − first offset + 1, up to where the ledger says.

    The first offset may be any (Kafka's retention, or a stream that began late). A message's date is its producer's
    time, so around midnight offsets and dates can be out of step by a few messages: where only recent dates are
    looked at and something seems missing, the whole table gives the verdict.
    """
    open_table(settings, BRONZE_MESSAGES)
    batch = newest_batches(settings).get("bronze")
    partitions = _partitions(settings, recent, batch)
    if recent and any(_missing(row) or _double(row) for row in partitions):
        partitions = _partitions(settings, False, batch)
    rows = sum(row["rows"] for row in partitions)
    missing = sum(_missing(row) for row in partitions)
    double = sum(_double(row) for row in partitions)
    figures: dict[str, Figure] = {
        "rows": rows,
        "partitions": len(partitions),
        "missing_offsets": missing,
        "double_offsets": double,
    }
    if missing or double:
        worst = max(partitions, key=lambda row: _missing(row) + _double(row))
        return CheckResult(
            False,
            f"Offsets missing: {missing:,}; offsets there twice: {double:,}; most of them in {worst['topic']} "
            f"partition {worst['part']} between offsets {worst['first']} and {worst['last']}.",
            figures,
        )
    return CheckResult(
        True,
        f"All offsets of {count_of(len(partitions), 'Kafka partition')} are there once: {count_of(rows, 'message')}.",
        figures,
    )


def _partitions(settings: Settings, recent: bool, batch: Batch | None) -> list[dict[str, Any]]:
    """Bronze as the newest batch left it; `end` is the offset that follows by ops/batches."""
    version = None if batch is None else batch.version_of(BRONZE_MESSAGES.path)
    rows: list[dict[str, Any]] = sql(
        settings,
        f"""
        SELECT topic, "partition" AS part, count(*) AS rows, count(DISTINCT "offset") AS distinct_offsets,
               min("offset") AS first, max("offset") AS last
        FROM messages WHERE {where_recent("ingest_date", recent)}
        GROUP BY topic, "partition" ORDER BY topic, "partition"
        """,
        messages=open_table(settings, BRONZE_MESSAGES, version),
    ).to_pylist()
    ends = {} if batch is None else batch.source_end
    for row in rows:
        row["end"] = ends.get(row["topic"], {}).get(str(row["part"]), row["last"] + 1)
    return rows


def _missing(row: dict[str, Any]) -> int:
    """Offsets between the first one and the end that are not there. Rows beyond the ledger's end do not count."""
    return int(max(row["last"] + 1, row["end"]) - row["first"] - row["distinct_offsets"])


def _double(row: dict[str, Any]) -> int:
    return int(row["rows"] - row["distinct_offsets"])
