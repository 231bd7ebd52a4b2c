"""Checks of bronze/messages: the offsets prove that no Kafka message is missing and none is there twice."""

from __future__ import annotations

from typing import Any

from lakehouse.lake import sql
from lakehouse.quality.model import CheckResult, always_a_verdict, count_of, where_recent
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES


@always_a_verdict
def offsets_contiguous(settings: Settings, recent: bool) -> CheckResult:
    """Per topic and partition: rows = distinct offsets = last offset − first offset + 1.

    The first offset may be any (Kafka's retention, or a stream that began late). A message's date is its producer's
    time, so around midnight offsets and dates can be out of step by a few messages: where only recent dates are
    looked at and something seems missing, the whole table gives the verdict.
    """
    partitions = _partitions(settings, recent)
    if recent and any(_missing(row) or _double(row) for row in partitions):
        partitions = _partitions(settings, recent=False)
    rows = sum(row["rows"] for row in partitions)
    missing = sum(_missing(row) for row in partitions)
    double = sum(_double(row) for row in partitions)
    figures = {"rows": rows, "partitions": len(partitions), "missing_offsets": missing, "double_offsets": double}
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


def _partitions(settings: Settings, recent: bool) -> list[dict[str, Any]]:
    return sql(
        settings,
        f"""
        SELECT topic, "partition" AS part, count(*) AS rows, count(DISTINCT "offset") AS distinct_offsets,
               min("offset") AS first, max("offset") AS last
        FROM messages WHERE {where_recent("ingest_date", recent)}
        GROUP BY topic, "partition" ORDER BY topic, "partition"
        """,
        messages=BRONZE_MESSAGES,
    ).to_pylist()


def _missing(row: dict[str, Any]) -> int:
    return int(row["last"] - row["first"] + 1 - row["distinct_offsets"])


def _double(row: dict[str, Any]) -> int:
    return int(row["rows"] - row["distinct_offsets"])
