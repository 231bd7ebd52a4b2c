"""A stream and a rebuild make the same Silver, also of copies in several partitions; Spark commits to no table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from lakehouse.lake import table_io
from lakehouse.rebuild.silver import rebuild_silver
from lakehouse.settings import Settings
from lakehouse.streams.materialize import materialize
from lakehouse.tables import SILVER_QUARANTINE, SILVER_TRADES
from tests.support.messages import NEW_YEAR, trade
from tests.support.parser_fix import fed, parser
from tests.support.silver_judge import rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

DAY_US = 86_400_000_000


def send_to(settings: Settings, *messages: tuple[int, int, dict[str, Any]]) -> None:
    """Send (partition, day of Kafka's timestamp, value) in one go."""
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for partition, day, value in messages:
        at = (NEW_YEAR + day * DAY_US) // 1_000
        producer.produce(settings.topic_trades, json.dumps(value).encode(), "key", partition=partition, timestamp=at)
    assert producer.flush(30) == 0


def with_id(number: int, price: str) -> dict[str, Any]:
    return trade(trade_id=number, ts_event=NEW_YEAR - DAY_US + number * 1_000_000, price=price)


def test_a_rebuild_keeps_the_copies_that_the_stream_has_kept(spark: SparkSession, kafka_settings: Settings) -> None:
    """In batches: 1 later in a lower partition. In a batch: 2 in two partitions, 3 and 4 in the files of two days."""
    settings = kafka_settings
    first = [(3, 0, with_id(1, "11")), (3, 0, with_id(5, "5")), (1, 0, with_id(2, "21")), (0, 0, with_id(2, "20"))]
    two_days = [(0, 2, with_id(3, "30")), (1, 1, with_id(3, "31")), (2, 1, with_id(4, "42")), (1, 2, with_id(4, "41"))]
    for messages in (first, [(0, 0, with_id(1, "10")), (0, 0, with_id(5, "5"))], two_days):
        send_to(settings, *messages)
        materialize(settings)
    kept = {row["trade_id"]: int(row["price"]) for row in rows(settings, SILVER_TRADES)}
    assert {number: kept[number] for number in (1, 2, 5)} == {1: 11, 2: 20, 5: 5}
    rules = [row["rule"] for row in rows(settings, SILVER_QUARANTINE)]
    assert rules == ["conflict"] * 4

    report = rebuild_silver(settings)
    assert [(table.table_path, table.changed) for table in report.tables if table.changed] == []
    assert report.identical


def test_every_commit_is_by_deltalake(spark: SparkSession, kafka_settings: Settings) -> None:
    """After streams, conflicts, quarantine, feed events, a rebuild that changes every table, and streams again."""
    settings = kafka_settings
    with parser("ODDUSDT"):
        fed(settings)
    with parser("GONEUSDT"):
        assert rebuild_silver(settings).rules_after["conflict"]
        fed(settings)
    commits = 0
    for table in table_io.active_tables(settings):
        for commit in table_io.open_table(settings, table).history():
            assert commit["engineInfo"].startswith("delta-rs:"), f"{table.path}: {commit}"
            commits += 1
    assert commits > 50
