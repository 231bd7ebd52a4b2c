"""The checks of the bars' ids: each bar in itself, and every flag `complete` against Silver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.quality.checks import CHECKS, CheckResult
from lakehouse.quality.model import Look
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, OPS_BATCHES, SILVER_CONTINUITY, SILVER_TRADES
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, range_row, trade_row, utc

MINUTE_US = 60_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def evaluate(settings: Settings, name: str, recent: bool = False, table: str = "gold/bars_1m") -> CheckResult:
    check = next(check for check in CHECKS if (check.name, check.table_path) == (name, table))
    return check.evaluate(settings, Look.LATELY if recent else Look.ALL)


def bar(minute: int, first: int, last: int, complete: bool, **columns: Any) -> dict[str, Any]:
    return bar_row(
        NOON_US + minute * MINUTE_US, first_trade_id=first, last_trade_id=last, complete=complete, trades=1, **columns
    )


def gold_batch(settings: Settings, batch_id: int = 0) -> None:
    """A gold batch that has just been committed at the tables' present versions."""
    end = {"version": open_table(settings, SILVER_TRADES).version(), "complete": True}
    versions = {table.path: open_table(settings, table).version() for table in (GOLD_BARS_1M, GOLD_BARS_5M)}
    row = batch_row("gold", batch_id, NOON_US + batch_id, source_end=end, versions=versions)
    append_rows(settings, OPS_BATCHES, [row])


# ------------------------------------------------------------------------------------------------ ids in themselves


@pytest.mark.parametrize(
    ("columns", "passed"),
    [
        ({"first_trade_id": 5, "last_trade_id": 5, "trades": 1}, True),
        ({"first_trade_id": 5, "last_trade_id": 9, "trades": 2}, True),
        ({"first_trade_id": 5, "last_trade_id": 9, "trades": 5, "complete": True}, True),
        ({"first_trade_id": 5, "last_trade_id": 9, "trades": 2, "complete": True}, True),  # others in other bars
        ({"first_trade_id": 5, "last_trade_id": 9, "trades": 6}, False),
        ({"first_trade_id": 9, "last_trade_id": 5, "trades": 1}, False),
    ],
)
def test_a_bar_has_an_id_for_each_of_its_trades(lake: Settings, columns: dict[str, Any], passed: bool) -> None:
    append_rows(lake, GOLD_BARS_1M, [bar_row(**columns)])
    result = evaluate(lake, "bars_consistent")
    assert result.passed == passed
    assert result.figures["bad_ids"] == (0 if passed else 1)


# ------------------------------------------------------------------------------------------------ flags


@pytest.fixture
def proved(lake: Settings) -> Settings:
    """Binance 1 to 6 without 5, and flags as they must be."""
    append_rows(lake, SILVER_TRADES, [trade_row(number) for number in (1, 2, 3)])
    append_rows(lake, SILVER_TRADES, [trade_row(number) for number in (4, 6)] + [trade_row(5, venue="kraken")])
    bars = [bar(0, 1, 1, False), bar(1, 2, 3, True), bar(2, 4, 4, False), bar(3, 6, 6, False)]
    append_rows(lake, GOLD_BARS_1M, [*bars, bar(3, 5, 5, False, venue="kraken")])
    append_rows(lake, GOLD_BARS_5M, [bar(0, 1, 6, False)])
    return lake


@pytest.mark.parametrize("recent", [False, True])
def test_right_flags_pass(proved: Settings, recent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.quality.model.first_recent_date", lambda: utc(NOON_US).date())
    assert "othing written yet" in evaluate(proved, "complete_proved", recent).detail
    gold_batch(proved)
    result = evaluate(proved, "complete_proved", recent)
    assert (result.passed, result.figures["bars"], result.figures["complete"]) == (True, 5, 1)
    assert result.detail.startswith("1 of 5 bars proved complete by Silver's ids at version 2")
    assert evaluate(proved, "complete_proved", recent, "gold/bars_5m").passed


@pytest.mark.parametrize("recent", [False, True])
@pytest.mark.parametrize(
    ("wrong", "figure"),
    [
        (bar(4, 4, 4, True), "flagged_without_proof"),  # 5 is not there
        (bar(4, 1, 2, True), "flagged_without_proof"),  # nothing before 1
        (bar(4, 2, 3, True, venue="kraken"), "flagged_without_proof"),
        (bar(4, 2, 3, False), "proved_without_flag"),
    ],
)
def test_a_wrong_flag_fails(
    proved: Settings, recent: bool, wrong: dict[str, Any], figure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.quality.model.first_recent_date", lambda: utc(NOON_US).date())
    append_rows(proved, GOLD_BARS_1M, [wrong])
    gold_batch(proved)
    result = evaluate(proved, "complete_proved", recent)
    assert not result.passed
    figures = {"flagged_without_proof": 0, "proved_without_flag": 0} | {figure: 1}
    assert {name: result.figures[name] for name in figures} == figures


def test_flags_are_compared_at_the_version_that_gold_processed(proved: Settings) -> None:
    gold_batch(proved)
    append_rows(proved, SILVER_TRADES, [trade_row(5)])  # proves the bars of 4 and of 6's beginning, not yet processed
    append_rows(proved, GOLD_BARS_1M, [bar(9, 4, 4, True)])  # of a batch that is under way
    assert evaluate(proved, "complete_proved").passed
    gold_batch(proved, 1)
    assert evaluate(proved, "complete_proved").figures["proved_without_flag"] == 1


def test_the_whole_check_does_not_believe_the_ledger(proved: Settings) -> None:
    append_rows(proved, SILVER_CONTINUITY, [range_row(1, 6, trades_version=2)])
    append_rows(proved, GOLD_BARS_1M, [bar(4, 4, 4, True)])
    gold_batch(proved)
    assert evaluate(proved, "complete_proved").figures["flagged_without_proof"] == 1
