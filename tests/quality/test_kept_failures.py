"""A failure stays the newest verdict until a look that covers the same rows passes."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import batch_log
from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.quality.checks import CHECKS, CheckResult, run_checks
from lakehouse.quality.model import Check, Look
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, OPS_CHECKS, SILVER_TRADES, Table
from tests.support.rows import bar_row, empty_lake, trade_row, utc

DAY_US = 86_400_000_000
NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
#: Outside the two days of a minute's look.
OLD_US = NOW_US - 5 * DAY_US


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def run(settings: Settings, table: Table, name: str, recent: bool) -> CheckResult:
    wanted = [check for check in CHECKS if (check.name, check.table_path) == (name, table.path)]
    ((_, result),) = run_checks(settings, wanted, recent=recent)
    return result


def bad_bar(settings: Settings) -> None:
    append_rows(settings, GOLD_BARS_1M, [bar_row(OLD_US, trades=0), bar_row(NOW_US)])


def double_trade(settings: Settings) -> None:
    append_rows(settings, SILVER_TRADES, [trade_row(7, OLD_US), trade_row(7, OLD_US), trade_row(8, NOW_US)])


def bad_price(settings: Settings) -> None:
    append_rows(settings, SILVER_TRADES, [trade_row(7, OLD_US, price=Decimal(0)), trade_row(8, NOW_US)])


FAULTS = pytest.mark.parametrize(
    ("fault", "table", "name"),
    [
        (bad_bar, GOLD_BARS_1M, "bars_consistent"),
        (double_trade, SILVER_TRADES, "key_unique"),
        (bad_price, SILVER_TRADES, "prices_and_sizes_positive"),
    ],
)


@FAULTS
def test_a_failure_of_a_full_look_stays_until_a_full_look_passes(
    lake: Settings, fault: Any, table: Table, name: str
) -> None:
    fault(lake)
    assert not run(lake, table, name, recent=False).passed
    for _ in range(2):
        assert not run(lake, table, name, recent=True).passed
    (newest,) = batch_log.newest_verdicts(lake, set())
    assert (newest.passed, json.loads(newest.detail)["recent"]) == (False, False)

    open_table(lake, table).delete()  # mended
    assert run(lake, table, name, recent=True).passed
    (newest,) = batch_log.newest_verdicts(lake, set())
    assert (newest.passed, json.loads(newest.detail)["recent"]) == (True, False)
    assert batch_log.failed_checks(lake) == {}
    run(lake, table, name, recent=True)
    (newest,) = batch_log.newest_verdicts(lake, set())
    assert json.loads(newest.detail)["recent"] is True, "it narrows its looks again"


def recorder(looks: list[Look], passes: bool) -> Check:
    def evaluate(settings: Settings, look: Look) -> CheckResult:
        looks.append(look)
        return CheckResult(passes, 'a sentence with "recent": false in it')

    return Check("key_unique", SILVER_TRADES.path, "", True, evaluate)


def verdict_row(at: int, passed: bool, recent: bool) -> dict[str, Any]:
    return {
        "table_path": SILVER_TRADES.path,
        "check_name": "key_unique",
        "evaluated_at": utc(at),
        "passed": passed,
        "detail": json.dumps({"sentence": "", "recent": recent, "figures": {}}),
        "run_id": "standalone:1",
        "check_date": utc(at).date(),
    }


@pytest.mark.parametrize(
    ("verdicts", "look"),
    [
        ([], Look.LATELY),
        ([(0, False, False)], Look.ALL),
        ([(0, False, True)], Look.DAYS),
        ([(-DAY_US, False, True)], Look.ALL),  # the two days have moved on since
        ([(-2, False, False), (-1, True, True)], Look.ALL),  # a minute's look that had begun before the full one failed
        ([(-2, False, False), (-1, True, False)], Look.LATELY),
        ([(-2, False, True), (-1, True, True)], Look.LATELY),
        ([(-3, True, False), (-2, False, True)], Look.DAYS),
    ],
)
def test_the_next_look_covers_what_the_failure_covered(
    lake: Settings, verdicts: list[tuple[int, bool, bool]], look: Look
) -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1_000_000)
    append_rows(lake, OPS_CHECKS, [verdict_row(now + at, passed, recent) for at, passed, recent in verdicts])
    looks: list[Look] = []
    run_checks(lake, [recorder(looks, True)], recent=True)
    assert looks == [look]


def test_a_sentence_cannot_pass_for_a_full_look(lake: Settings) -> None:
    looks: list[Look] = []
    run_checks(lake, [recorder(looks, False)], recent=True)
    run_checks(lake, [recorder(looks, True)], recent=True)
    run_checks(lake, [recorder(looks, True)], recent=True)
    assert looks == [Look.LATELY, Look.DAYS, Look.LATELY]
