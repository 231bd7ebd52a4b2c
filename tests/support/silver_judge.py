"""The judge of a rebuilt Silver: plain Python over the messages in Bronze, and the whole lake's own proofs.

The test says which messages its rules refuse; all else about Silver is said here once more, without Spark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lakehouse.audit.run import audit
from lakehouse.lake import table_io
from lakehouse.lake.batch_log import newest_batches
from lakehouse.quality.checks import checks_of_lake, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.support.truth import assert_bars_equal_fold

Row = dict[str, Any]
#: (what the message says, its row in Bronze) → the rule that refuses it, None where it is good.
Refusal = Callable[[Row, Row], str | None]


def rows(settings: Settings, table: Table, columns: str = "*") -> list[Row]:
    """All rows of a table."""
    found: list[Row] = table_io.sql(settings, f"SELECT {columns} FROM t", t=table).to_pylist()
    return found


def messages_read(settings: Settings, topic: str) -> list[Row]:
    """The messages of a topic that Silver has read, in Kafka's order."""
    bronze = table_io.open_table(settings, BRONZE_MESSAGES, newest_batches(settings)["silver"].source_version)
    found: list[Row] = table_io.sql(settings, f"SELECT * FROM t WHERE topic = '{topic}'", t=bronze).to_pylist()
    return sorted(found, key=lambda one: (one["partition"], one["offset"]))


def judged(settings: Settings, refusal: Refusal) -> tuple[set[Any], dict[tuple[int, int], str]]:
    """Expected from the messages that Silver has read: its trades, and Kafka position → rule for the quarantine."""
    kept: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    good: set[Any] = set()
    quarantined: dict[tuple[int, int], str] = {}
    for row in messages_read(settings, settings.topic_trades):
        place = row["partition"], row["offset"]
        try:
            value = json.loads(row["value_raw"])
        except (TypeError, ValueError):
            quarantined[place] = "no_value" if row["value_raw"] is None else "not_json"
            continue
        if rule := refusal(value, row):
            quarantined[place] = rule
            continue
        key = value["venue"], value["symbol"], value["trade_id"]
        content = float(value["price"]), value["side"], value["ts_event"]
        if key not in kept:
            kept[key] = content
            good.add((*key, content[0], *place))
        elif kept[key] != content:
            quarantined[place] = "conflict"
    return good, quarantined


def assert_silver_is(settings: Settings, refusal: Refusal) -> None:
    """Check silver/trades and the trades in silver/quarantine against the messages."""
    good, quarantined = judged(settings, refusal)
    columns = "venue, symbol, trade_id, price, kafka_partition, kafka_offset"
    there = rows(settings, SILVER_TRADES, columns)
    assert len(there) == len(good)
    assert {(*list(row.values())[:3], float(row["price"]), *list(row.values())[4:]) for row in there} == good
    found = {
        (row["kafka_partition"], row["kafka_offset"]): row["rule"]
        for row in rows(settings, SILVER_QUARANTINE)
        if row["kafka_topic"] == settings.topic_trades
    }
    assert found == quarantined


def assert_exact(settings: Settings) -> None:
    """Check that the audit is exact, every check passes, and the bars are the fold of the trades."""
    report = audit(settings)
    assert report.faults == []
    assert [(one.query, one.generations, one.without_row) for one in report.books] == [
        ("bronze", 1, 0), ("silver", 1, 0), ("gold", 1, 0),
    ]  # fmt: skip
    assert report.rows_not_yet == 0
    # The gap of the test is old after two minutes, on a slow machine.
    checks = [check for check in checks_of_lake(settings) if check.name not in ("quarantine_settled", "no_old_holes")]
    wrong = [(check.table_path, result.detail) for check, result in run_checks(settings, checks) if not result.passed]
    assert wrong == [], wrong
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes)
