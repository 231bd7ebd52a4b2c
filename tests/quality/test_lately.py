"""The minute's checks look at the rows of the last minutes, and at more if something is or was wrong."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import batch_log
from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.quality.checks import CHECKS, CheckResult, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES
from tests.support.rows import batch_row, empty_lake, message_row, range_row, trade_row, utc

MINUTE_US = 60_000_000
NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
#: Older than what a minute's check looks at, and today or yesterday.
BEFORE_US = NOW_US - 60 * MINUTE_US
TOPIC = "crypto.trades"


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def verdict(settings: Settings, name: str) -> CheckResult:
    """Evaluated and recorded as a stream does it."""
    ((_, result),) = run_checks(settings, [check for check in CHECKS if check.name == name], recent=True)
    return result


# ------------------------------------------------------------------------------------------------ bronze


def bronze_batch(settings: Settings, number: int, at: int, start: dict[str, int], end: dict[str, int]) -> None:
    """A batch whose messages are in the table."""
    row = batch_row(
        "bronze",
        number,
        at,
        source_start={TOPIC: start},
        source_end={TOPIC: end},
        versions={BRONZE_MESSAGES.path: open_table(settings, BRONZE_MESSAGES).version()},
    )
    append_rows(settings, OPS_BATCHES, [row])


def batches(settings: Settings, old: list[int], new: list[int], other: list[int] | None = None) -> None:
    """Partition 0: offsets 0 to 69 in an old batch, 70 to 139 in a new one; partition 1: 0 to 4, as the ledger says."""
    # Near enough to be read with the new ones, whose clocks may be behind.
    before = NOW_US - 8 * MINUTE_US
    append_rows(settings, BRONZE_MESSAGES, [message_row(offset, before) for offset in old])
    bronze_batch(settings, 0, before, {"0": 0, "1": 0}, {"0": 70, "1": 0})
    rows = [message_row(offset, NOW_US) for offset in new]
    rows += [message_row(offset, NOW_US, partition=1) for offset in (range(5) if other is None else other)]
    append_rows(settings, BRONZE_MESSAGES, rows)
    bronze_batch(settings, 1, NOW_US, {"0": 70, "1": 0}, {"0": 140, "1": 5})


def test_offsets_of_the_last_batches_alone_are_looked_at(lake: Settings) -> None:
    batches(lake, list(range(70)), list(range(70, 140)))
    result = verdict(lake, "offsets_contiguous")
    assert result.passed
    assert result.figures == {"rows": 75, "partitions": 2, "missing_offsets": 0, "double_offsets": 0}


@pytest.mark.parametrize(
    ("new", "other", "missing", "double"),
    [
        ([*range(71, 140)], None, 1, 0),  # the first of the batch
        ([*range(70, 139)], None, 1, 0),  # the last
        ([*range(70, 100), *range(101, 140)], None, 1, 0),
        ([*range(70, 140), 127], None, 0, 1),
        ([*range(70, 140), 70], None, 0, 1),
        ([], None, 70, 0),  # all of a partition
        ([*range(70, 140)], [], 5, 0),  # a partition that has no other message
    ],
)
def test_what_is_wrong_with_the_last_batches_is_found_and_stays(
    lake: Settings, new: list[int], other: list[int] | None, missing: int, double: int
) -> None:
    batches(lake, list(range(70)), new, other)
    result = verdict(lake, "offsets_contiguous")
    assert not result.passed, result
    assert (result.figures["missing_offsets"], result.figures["double_offsets"]) == (missing, double)
    append_rows(lake, BRONZE_MESSAGES, [message_row(140, NOW_US + 30 * MINUTE_US)])
    bronze_batch(lake, 2, NOW_US + 30 * MINUTE_US, {"0": 140, "1": 5}, {"0": 141, "1": 5})
    assert not verdict(lake, "offsets_contiguous").passed  # long after the batch


def test_a_message_that_waited_for_long_is_found_by_its_date(lake: Settings) -> None:
    batches(lake, list(range(70)), list(range(71, 140)))
    append_rows(lake, BRONZE_MESSAGES, [message_row(70, BEFORE_US)])
    bronze_batch(lake, 2, NOW_US + 1, {"0": 140, "1": 5}, {"0": 140, "1": 5})
    result = verdict(lake, "offsets_contiguous")
    assert result.passed
    assert result.figures["rows"] == 145


def test_where_a_query_began_some_time_ago(lake: Settings) -> None:
    batches(lake, [], [])
    assert batch_log.source_start_since(lake, "bronze", utc(NOW_US)) == {TOPIC: {"0": 70, "1": 0}}
    assert batch_log.source_start_since(lake, "bronze", utc(BEFORE_US)) == {TOPIC: {"0": 0, "1": 0}}
    assert batch_log.source_start_since(lake, "bronze", utc(NOW_US + 1)) is None
    assert batch_log.source_start_since(lake, "silver", utc(0)) is None


# ------------------------------------------------------------------------------------------------ silver


def trades(settings: Settings, *rows: dict[str, Any], present: int = 3) -> None:
    """Trades 1 to 3, of which 3 came lately, and others; the ledger says that 1 to `present` are there."""
    append_rows(
        settings, SILVER_TRADES, [old_trade(1), old_trade(2), trade_row(3, NOW_US, ts_kafka=utc(NOW_US)), *rows]
    )
    version = open_table(settings, SILVER_TRADES).version()
    append_rows(settings, SILVER_CONTINUITY, [range_row(1, present, since=utc(NOW_US), trades_version=version)])


def old_trade(trade_id: int, **columns: Any) -> dict[str, Any]:
    return trade_row(trade_id, BEFORE_US, ts_kafka=utc(BEFORE_US), **columns)


def test_where_the_counts_agree_the_trades_of_the_last_minutes_are_looked_at(lake: Settings) -> None:
    trades(lake)
    result = verdict(lake, "key_unique")
    assert (result.passed, result.figures["rows"]) == (True, 1)


def test_an_old_trade_twice_is_told_by_the_count(lake: Settings) -> None:
    trades(lake, old_trade(2))
    result = verdict(lake, "key_unique")
    assert (result.passed, result.figures["rows"], result.figures["surplus_rows"]) == (False, 4, 1)


def test_a_trade_twice_where_another_is_lost_is_found_among_the_new(lake: Settings) -> None:
    trades(lake, trade_row(3, NOW_US, ts_kafka=utc(NOW_US)), present=4)
    assert not verdict(lake, "key_unique").passed


def test_a_trade_twice_behind_the_ledgers_version_is_found(lake: Settings) -> None:
    trades(lake)
    append_rows(lake, SILVER_TRADES, [old_trade(2)])
    assert not verdict(lake, "key_unique").passed


def test_a_bad_price_is_found_as_it_comes_and_stays(lake: Settings) -> None:
    came = utc(NOW_US - 20 * MINUTE_US)
    rows = [old_trade(1), trade_row(2, NOW_US, ts_kafka=came), trade_row(3, NOW_US, ts_kafka=came, price=Decimal(0))]
    append_rows(lake, SILVER_TRADES, rows)
    result = verdict(lake, "prices_and_sizes_positive")
    assert (result.passed, result.figures["rows"]) == (False, 2)
    append_rows(lake, SILVER_TRADES, [trade_row(4, NOW_US, ts_kafka=utc(NOW_US))])
    result = verdict(lake, "prices_and_sizes_positive")
    assert (result.passed, result.figures["rows"]) == (False, 4)
