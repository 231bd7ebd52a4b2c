"""The minute's checks of Gold look at bars that were changed in the last minutes, and at those around them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake.table_io import append_rows, open_table
from lakehouse.quality.checks import CHECKS, CheckResult, run_checks
from lakehouse.settings import Settings
from lakehouse.tables import (
    GOLD_BARS_1M,
    GOLD_INDICATORS_1M,
    GOLD_SPREADS_1M,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_TRADES,
    Table,
)
from tests.support.rows import bar_row, batch_row, empty_lake, range_row, trade_row, utc

MINUTE_US = 60_000_000
NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
#: Today or yesterday, and older than what a minute's check looks at.
OLD_US = NOW_US - 60 * MINUTE_US
OLDER_US = NOW_US - 70 * MINUTE_US


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def verdict(settings: Settings, name: str, table: Table = GOLD_BARS_1M) -> CheckResult:
    """Evaluated and recorded as a stream does it."""
    wanted = [check for check in CHECKS if (check.name, check.table_path) == (name, table.path)]
    ((_, result),) = run_checks(settings, wanted, recent=True)
    return result


def bars(settings: Settings, *rows: dict[str, Any]) -> None:
    append_rows(settings, GOLD_BARS_1M, list(rows))


def test_a_bar_that_was_changed_is_looked_at_with_those_behind_it(lake: Settings) -> None:
    bars(lake, bar_row(OLDER_US), bar_row(OLD_US), bar_row(NOW_US))
    assert verdict(lake, "bars_consistent").figures["bars"] == 1
    bars(lake, bar_row(OLD_US + MINUTE_US, updated_at=utc(NOW_US)))
    result = verdict(lake, "bars_consistent")
    assert (result.passed, result.figures["bars"]) == (True, 2)


def test_a_clock_that_is_ahead_hides_nothing(lake: Settings) -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000  # NOW_US may be half an hour ago in a long run
    ahead = bar_row(now, symbol="ETH/USDT", updated_at=utc(now + 60 * MINUTE_US))
    bars(lake, bar_row(now - MINUTE_US, trades=0), ahead)
    assert not verdict(lake, "bars_consistent").passed


def test_a_wrong_bar_is_found_as_it_is_written_and_stays(lake: Settings) -> None:
    before = NOW_US - 20 * MINUTE_US
    bars(lake, bar_row(OLDER_US), bar_row(OLD_US, trades=0, updated_at=utc(before)), bar_row(before))
    result = verdict(lake, "bars_consistent")
    assert (result.passed, result.figures["bars"]) == (False, 2)
    bars(lake, bar_row(NOW_US))
    result = verdict(lake, "bars_consistent")
    assert (result.passed, result.figures["bars"]) == (False, 4)


def test_a_lake_at_rest_and_one_without_recent_bars(lake: Settings) -> None:
    assert verdict(lake, "bars_consistent").figures["bars"] == 0
    bars(lake, bar_row(NOW_US - 5 * 24 * 60 * MINUTE_US, trades=0))
    result = verdict(lake, "bars_consistent")
    assert (result.passed, result.figures["bars"]) == (True, 0)


# ------------------------------------------------------------------------------------------------ flags


def flagged(settings: Settings, first: int, last: int, complete: bool, at: int, changed: int) -> None:
    """A bar, beside trades 1 to 4; a batch has just left them."""
    row = bar_row(at, first_trade_id=first, last_trade_id=last, complete=complete, trades=1, updated_at=utc(changed))
    bars(settings, row, bar_row(NOW_US, first_trade_id=4, last_trade_id=4, trades=1))
    append_rows(settings, SILVER_TRADES, [trade_row(number) for number in (1, 2, 3, 4)])
    version = open_table(settings, SILVER_TRADES).version()
    append_rows(settings, SILVER_CONTINUITY, [range_row(1, 4, since=utc(NOW_US), trades_version=version)])
    versions = {table.path: open_table(settings, table).version() for table in (GOLD_BARS_1M, SILVER_CONTINUITY)}
    row = batch_row("gold", 0, NOW_US, source_end={"version": version, "complete": True}, versions=versions)
    append_rows(settings, OPS_BATCHES, [row])


@pytest.mark.parametrize(
    ("first", "last", "complete", "changed", "wrong"),
    [
        (2, 3, True, OLD_US, False),
        (2, 3, False, OLD_US, True),  # a bar that is not flagged is looked at, however old
        (1, 3, False, OLD_US, False),
        (1, 3, True, NOW_US, True),
    ],
)
def test_flags(lake: Settings, first: int, last: int, complete: bool, changed: int, wrong: bool) -> None:
    flagged(lake, first, last, complete, OLD_US, changed)
    assert verdict(lake, "complete_proved").passed != wrong


# ------------------------------------------------------------------------------------------------ what is made of bars


def indicator(at: int, close: int = 11, changed: int | None = None) -> dict[str, Any]:
    row = dict.fromkeys(GOLD_INDICATORS_1M.column_names)
    return row | {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": utc(at),
        "close": Decimal(close),
        "revision": 1,
        "updated_at": utc(at if changed is None else changed),
        "bar_date": utc(at).date(),
    }


def follows(settings: Settings, *rows: dict[str, Any]) -> CheckResult:
    append_rows(settings, GOLD_INDICATORS_1M, list(rows))
    return verdict(settings, "follows_bars", GOLD_INDICATORS_1M)


def test_indicators_of_the_last_minutes_bars(lake: Settings) -> None:
    bars(lake, bar_row(OLD_US), bar_row(NOW_US))
    result = follows(lake, indicator(NOW_US))
    assert (result.passed, result.figures["expected"]) == (True, 1)


@pytest.mark.parametrize(
    ("changed_bar", "row"),
    [
        (OLD_US, indicator(OLD_US, 12, NOW_US)),  # one that is changed, of a bar that is not
        (NOW_US, indicator(OLD_US, 12)),  # the other way round
        (NOW_US, indicator(OLD_US + MINUTE_US, 11)),  # no row of the bar, a row of none
    ],
)
def test_an_indicator_that_does_not_follow_is_found_and_stays(
    lake: Settings, changed_bar: int, row: dict[str, Any]
) -> None:
    bars(lake, bar_row(OLD_US, updated_at=utc(changed_bar)), bar_row(NOW_US))
    assert not follows(lake, row, indicator(NOW_US)).passed
    assert not follows(lake, indicator(OLDER_US)).passed


def test_spreads_of_the_last_minutes_bars(lake: Settings) -> None:
    bars(lake, bar_row(OLD_US), bar_row(NOW_US), bar_row(NOW_US, venue="kraken", close=Decimal(12)))
    row = dict.fromkeys(GOLD_SPREADS_1M.column_names) | {
        "base": "BTC",
        "quote": "USDT",
        "bar_start": utc(NOW_US),
        "price_binance": Decimal(11),
        "price_kraken": Decimal(12),
        "venues": 2,
        "revision": 1,
        "updated_at": utc(NOW_US),
        "bar_date": utc(NOW_US).date(),
    }
    append_rows(lake, GOLD_SPREADS_1M, [row])
    result = verdict(lake, "follows_bars", GOLD_SPREADS_1M)
    assert (result.passed, result.figures["expected"]) == (True, 1)
    bars(lake, bar_row(NOW_US, symbol="ETH/USDT"))
    assert verdict(lake, "follows_bars", GOLD_SPREADS_1M).figures["wrong"] == 1
