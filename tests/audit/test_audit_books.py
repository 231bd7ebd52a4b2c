"""The audit finds and names what is wrong in the books, ops/batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.audit.run import audit
from lakehouse.cli import build_app
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import mixed, more


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def books(query: str, change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def edit(row: dict[str, Any]) -> None:
        if row["query"] == query:
            change(row)

    return edit


def count(topic: str, partition: str, figure: str, by: int) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        row["partitions"][topic][partition][figure] += by

    return change


def shift(column: str, by: int) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        row[column] += by

    return change


def one_more_repeat(row: dict[str, Any]) -> None:
    row["partitions"]["crypto.trades"]["0"]["in"] += 1
    row["partitions"]["crypto.trades"]["0"]["duplicate"] += 1


def one_more_read(row: dict[str, Any]) -> None:
    row["partitions"]["crypto.trades"]["1"] |= {"in": 2, "out": 2}
    row |= {"rows_in": row["rows_in"] + 1, "rows_out": row["rows_out"] + 1}


def moved_start(row: dict[str, Any]) -> None:
    row["source_start"] = {"crypto.trades": {"0": 11, "1": 6}}


def moved_end(row: dict[str, Any]) -> None:
    row["source_end"] = row["source_end"] | {"crypto.trades": {"0": 20, "1": 7}}
    row["partitions"]["crypto.trades"]["0"] |= {"in": 8, "out": 8}
    row["rows_in"] = row["rows_out"] = row["rows_in"] + 5


@pytest.mark.parametrize(
    ("query", "change", "said"),
    [
        ("silver", shift("rows_in", 1), "silver batch 1 of generation first: read 7, +1 unaccounted"),
        ("silver", count("crypto.trades", "1", "in", 1), "crypto.trades partition 1: silver batch 1"),
        ("silver", count("crypto.trades", "0", "out", -1), "crypto.trades partition 0: silver batch 1"),
        ("bronze", count("crypto.trades", "1", "in", 1), "crypto.trades partition 1: bronze batch 1"),
        ("bronze", moved_start, "crypto.trades partition 0: bronze batch 1 of generation first begins at offset 11"),
        (
            "bronze",
            moved_end,
            "crypto.trades partition 0: ops/batches has 4 messages that bronze/messages lacks: 16–19",
        ),
        (
            "silver",
            lambda row: row.update(partitions=None),
            "silver batch 1 of generation first: no counts by partition",
        ),
        (
            "silver",
            lambda row: row.update(source_start={"version": 0, "complete": True}),
            "silver batch 1 of generation first: begins at {'version': 0",
        ),
        ("silver", one_more_repeat, "silver batch 1 of generation first: its partitions add up to (7, 4, 2,"),
        (
            "bronze",
            one_more_read,
            "crypto.trades partition 1: bronze batch 1 of generation first read offsets 6 to 6, and counts 2 messages",
        ),
        ("gold", shift("rows_in", -1), "ops/batches of gold has 16 trades read, silver/trades holds 17"),
    ],
)
def test_what_is_wrong_in_the_books_is_found_and_named(
    lake: AuditLake, query: str, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    lake.batch(mixed())
    lake.batch(more(), edit=books(query, change))
    faults = audit(lake.settings).faults
    assert any(said in fault for fault in faults), faults


def test_books_that_balance_and_tell_another_story_than_the_tables(lake: AuditLake) -> None:
    def fewer(row: dict[str, Any]) -> None:
        row["partitions"]["crypto.trades"]["0"] |= {"out": 2, "duplicate": 2}
        row |= {"rows_out": row["rows_out"] - 1, "rows_duplicate": row["rows_duplicate"] + 1}

    lake.batch(mixed())
    lake.batch(more(), edit=books("silver", fewer))
    assert audit(lake.settings).faults == [
        "crypto.trades partition 0: ops/batches of silver has out 10, the tables 11",
        "crypto.trades partition 0: ops/batches of silver has duplicate 4, the tables 3",
    ]


def test_an_unreadable_row_of_the_books_is_one_line(lake: AuditLake) -> None:
    lake.batch(mixed(), edit=books("gold", lambda row: row.update(versions="{")))
    result = CliRunner().invoke(build_app(), ["audit", "--home", str(lake.settings.home)])
    assert result.exit_code == 1
    assert "versions is '{'; expected a JSON object" in str(result.exception)
