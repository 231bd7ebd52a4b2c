"""The check `fresh`: what came is read within two minutes while more comes; quiet or stopped is not late."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from lakehouse.lake.table_io import append_rows
from lakehouse.quality.checks import CheckResult, run_checks
from lakehouse.quality.checks import checks_of_lake as checks_of
from lakehouse.quality.freshness import LATE_SECONDS
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_TRADES, Table
from tests.support.rows import batch_row, empty_lake, message_row, trade_row

MINUTE = 60.0
HOUR = 3600.0
SOURCES: dict[str, tuple[str, Table]] = {
    "silver/trades": ("bronze", BRONZE_MESSAGES),
    "gold/bars_1m": ("silver", SILVER_TRADES),
}


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Bronze and Silver have three commits of two rows each."""
    settings = empty_lake(tmp_path / "home")
    for number in (1, 3, 5):
        append_rows(settings, BRONZE_MESSAGES, [message_row(number), message_row(number + 1)])
        append_rows(settings, SILVER_TRADES, [trade_row(number), trade_row(number + 1)])
    return settings


def batch(settings: Settings, query: str, ago: float, **columns: Any) -> None:
    """A batch that was committed so many seconds ago."""
    at = time.time_ns() // 1000 - int(ago * 1e6)
    columns.setdefault("rows_out", 2)
    append_rows(settings, OPS_BATCHES, [batch_row(query, at, at, **columns)])


def wrote(settings: Settings, path: str, version: int, ago: float, **columns: Any) -> None:
    """The layer below `path` has committed a version of its table."""
    query, table = SOURCES[path]
    batch(settings, query, ago, versions={table.path: version}, **columns)


def read(settings: Settings, path: str, version: int, ago: float, complete: bool = True) -> None:
    """The layer of `path` has read its source up to a version."""
    batch(settings, path.partition("/")[0], ago, source_end={"version": version, "complete": complete})


def fresh(settings: Settings, path: str) -> CheckResult:
    wanted = [check for check in checks_of(settings) if (check.name, check.table_path) == ("fresh", path)]
    ((_, result),) = run_checks(settings, wanted, recent=True)
    return result


below = pytest.mark.parametrize("path", SOURCES)


@below
def test_a_stream_that_stands_still_is_late(lake: Settings, path: str) -> None:
    read(lake, path, 1, 12 * MINUTE)
    wrote(lake, path, 1, 13 * MINUTE)
    wrote(lake, path, 2, 11 * MINUTE)
    wrote(lake, path, 3, 5)
    result = fresh(lake, path)
    assert not result.passed
    assert result.detail == (
        f"Late: 4 rows of {SOURCES[path][1].path} wait, some for more than 2 minutes, and more come; "
        "the newest batch is 12 minutes old."
    )
    assert result.figures["batch_age_seconds"] in range(720, 740)


@below
def test_a_stream_that_is_still_far_behind_is_late(lake: Settings, path: str) -> None:
    wrote(lake, path, 2, 40 * MINUTE)
    wrote(lake, path, 3, 1)
    read(lake, path, 1, 1)
    result = fresh(lake, path)
    assert (result.passed, "the newest batch is 1 second" in result.detail) == (False, True)


@below
def test_a_stream_that_has_never_read_is_late(lake: Settings, path: str) -> None:
    wrote(lake, path, 1, 3 * MINUTE)
    wrote(lake, path, 3, 3)
    result = fresh(lake, path)
    assert not result.passed
    assert result.detail.startswith("Late: 6 rows of ")
    assert result.detail.endswith("; nothing written yet.")


@below
def test_the_rest_of_a_version_read_in_part_waits(lake: Settings, path: str) -> None:
    wrote(lake, path, 2, 4 * MINUTE)
    wrote(lake, path, 3, 1)
    read(lake, path, 2, 3 * MINUTE, complete=False)
    assert not fresh(lake, path).passed


@below
def test_a_quiet_market_is_not_late(lake: Settings, path: str) -> None:
    wrote(lake, path, 2, 20 * MINUTE)
    read(lake, path, 2, 20 * MINUTE)
    wrote(lake, path, 3, 1)  # just come, not read yet
    result = fresh(lake, path)
    assert (result.passed, result.detail) == (
        True,
        "The newest batch is 20 minutes old; nothing has waited for 2 minutes.",
    )


@below
def test_what_came_just_now_may_wait(lake: Settings, path: str) -> None:
    wrote(lake, path, 1, LATE_SECONDS + MINUTE)
    read(lake, path, 1, LATE_SECONDS)
    wrote(lake, path, 2, LATE_SECONDS - 30)
    wrote(lake, path, 3, 1)
    assert fresh(lake, path).passed


@below
def test_a_lakehouse_that_was_stopped_is_not_late(lake: Settings, path: str) -> None:
    wrote(lake, path, 1, 3 * HOUR)
    read(lake, path, 1, 3 * HOUR)
    wrote(lake, path, 3, 3 * HOUR - 1)  # the stop came before it could be read
    result = fresh(lake, path)
    assert (result.passed, result.detail) == (True, "The newest batch is 3 hours old; nothing has come for 2 minutes.")


@below
def test_batches_without_rows_and_rebuilds_are_no_source(lake: Settings, path: str) -> None:
    read(lake, path, 1, 3 * MINUTE)
    wrote(lake, path, 2, 3 * MINUTE, rows_out=0)
    wrote(lake, path, 2, 3 * MINUTE, generation="rebuild-7")
    wrote(lake, path, 3, 1)
    assert fresh(lake, path).passed


def test_where_kafka_does_not_answer_nobody_knows(lake: Settings) -> None:
    result = fresh(lake, "bronze/messages")
    assert result.passed
    assert result.detail.startswith("Nothing written yet; what waits in Kafka is not known: no Kafka bootstrap servers")
    batch(lake, "bronze", 90, source_end={})
    unreachable = lake.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    result = fresh(unreachable, "bronze/messages")
    assert result.passed
    assert result.detail.startswith("The newest batch is 9")
    assert "no Kafka broker listens at 127.0.0.1:1" in result.detail


@pytest.mark.kafka
def test_messages_in_kafka(kafka_settings: Settings) -> None:
    settings = empty_lake(kafka_settings.home)
    settings = kafka_settings.model_copy(update={"home": settings.home})
    topic = settings.topic_trades

    def send(partition: int, ago: float) -> None:
        producer = Producer({"bootstrap.servers": settings.bootstrap()})
        producer.produce(topic, b"{}", partition=partition, timestamp=int((time.time() - ago) * 1000))
        assert producer.flush(30) == 0

    assert fresh(settings, "bronze/messages").detail == "Nothing written yet; nothing has come for 2 minutes."
    send(0, 10 * MINUTE)
    send(1, 5 * MINUTE)
    stopped = fresh(settings, "bronze/messages")
    assert (stopped.passed, stopped.detail) == (True, "Nothing written yet; nothing has come for 2 minutes.")
    send(1, 1)
    late = fresh(settings, "bronze/messages")
    assert not late.passed
    assert late.detail == ("Late: 3 messages wait, some for more than 2 minutes, and more come; nothing written yet.")
    batch(settings, "bronze", 10, source_end={topic: {"0": 1, "1": 0}})
    assert fresh(settings, "bronze/messages").detail.startswith("Late: 2 messages wait")
    batch(settings, "bronze", 5, source_end={topic: {"0": 1, "1": 1}})
    read = fresh(settings, "bronze/messages")
    assert (read.passed, read.detail) == (
        True,
        f"The newest batch is {read.figures['batch_age_seconds']} seconds old; nothing has waited for 2 minutes.",
    )
