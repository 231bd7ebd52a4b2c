from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import append_rows, open_table, sql
from lakehouse.quality.checks import CHECKS, CheckResult, checks_of_lake, run_checks
from lakehouse.quality.model import Look, always_a_verdict, first_recent_date
from lakehouse.settings import Settings, load_settings
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    OPS_CHECKS,
    SILVER_CONTINUITY,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import mixed
from tests.support.damage import lose
from tests.support.rows import NOON_US, bar_row, empty_lake, message_row, trade_row

DAY_US = 86_400_000_000
NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def evaluate(settings: Settings, name: str, table_path: str, recent: bool = False) -> CheckResult:
    check = next(check for check in CHECKS if (check.name, check.table_path) == (name, table_path))
    return check.evaluate(settings, Look.LATELY if recent else Look.ALL)


# ------------------------------------------------------------------------------------------------ all checks


def test_every_check_passes_on_an_empty_lake_and_says_so(lake: Settings) -> None:
    results = run_checks(lake)
    assert [check.name for check, result in results if not result.passed] == []
    assert all(" 0 " in f" {result.detail}" or "othing written yet" in result.detail for _, result in results)


def test_every_check_fails_where_there_is_no_table(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    for check in CHECKS:
        result = check.evaluate(settings, Look.ALL)
        assert not result.passed
        assert result.detail.startswith("Could not be evaluated: no table ")


def test_run_checks_needs_a_lake_to_record_in(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match="no table ops/checks"):
        run_checks(load_settings(home=tmp_path))


def test_names_are_unique_and_tables_known() -> None:
    keys = [(check.table_path, check.name) for check in CHECKS]
    assert len(set(keys)) == len(keys) == 30
    assert all(check.description.endswith(".") for check in CHECKS)


def test_verdicts_are_recorded_in_one_commit(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1), trade_row(1)])
    before = open_table(lake, OPS_CHECKS).version()
    results = run_checks(lake, recent=False, run_id="run 7")
    table = open_table(lake, OPS_CHECKS)
    assert table.version() == before + 1
    rows = sql(lake, "SELECT * FROM c", c=table).to_pylist()
    assert {(row["table_path"], row["check_name"]): row["passed"] for row in rows} == {
        (check.table_path, check.name): result.passed for check, result in results
    }
    row = next(row for row in rows if row["check_name"] == "key_unique")
    assert (row["passed"], row["run_id"], row["check_date"]) == (False, "run 7", row["evaluated_at"].date())
    assert json.loads(row["detail"])["figures"] == {"rows": 2, "double_keys": 1, "surplus_rows": 1}


@pytest.mark.parametrize("table", [SILVER_TRADES, SILVER_QUARANTINE, BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_CONTINUITY])
def test_a_lost_file_fails_its_checks_and_every_verdict_is_recorded(tmp_path: Path, table: Table) -> None:
    lake = AuditLake.empty(tmp_path)
    lake.batch(mixed())
    lost = lose(lake.settings, table)
    verdicts = run_checks(lake.settings, recent=False)
    assert len(verdicts) == len(checks_of_lake(lake.settings)) > 20
    recorded = sql(lake.settings, "SELECT * FROM c", c=OPS_CHECKS).to_pylist()
    assert len(recorded) == len(verdicts)
    assert all(not row["passed"] for row in recorded if "cannot be read" in row["detail"])
    assert any(file in row["detail"] for row in recorded for file in lost)


def test_a_check_that_raises_arrows_or_the_systems_error_fails() -> None:
    """A read of a log may raise the first, a computation in Arrow the second."""

    @always_a_verdict
    def full(settings: Settings, look: Look) -> CheckResult:
        raise OSError(5, "Input/output error")

    @always_a_verdict
    def overflow(settings: Settings, look: Look) -> CheckResult:
        return CheckResult(bool(pc.add_checked(pa.scalar(2**63 - 1), pa.scalar(1))), "")

    for check in (full, overflow):
        result = check(load_settings(), Look.ALL)
        assert not result.passed
        assert result.detail.startswith("Could not be evaluated: ")


def test_no_checks_no_commit(lake: Settings) -> None:
    assert run_checks(lake, checks=()) == []
    assert open_table(lake, OPS_CHECKS).version() == 0


# ------------------------------------------------------------------------------------------------ bronze


def offsets(settings: Settings, recent: bool = False) -> CheckResult:
    return evaluate(settings, "offsets_contiguous", "bronze/messages", recent)


def test_contiguous_offsets_pass_per_topic_and_partition(lake: Settings) -> None:
    rows = [message_row(offset) for offset in (5, 6, 7)]
    rows += [message_row(offset, partition=1) for offset in (0, 1)]
    rows += [message_row(100, topic="crypto.feed_events")]
    append_rows(lake, BRONZE_MESSAGES, rows)
    result = offsets(lake)
    assert result.passed
    assert result.figures == {"rows": 6, "partitions": 3, "missing_offsets": 0, "double_offsets": 0}
    assert result.detail == "All offsets of 3 Kafka partitions are there once: 6 messages."


@pytest.mark.parametrize(
    ("present", "missing", "double"),
    [((1, 2, 4), 1, 0), ((1, 2, 2), 0, 1), ((1, 2, 2, 4), 1, 1), ((1, 1, 3), 1, 1), ((1, 10), 8, 0)],
)
def test_missing_and_double_offsets_fail(lake: Settings, present: tuple[int, ...], missing: int, double: int) -> None:
    append_rows(lake, BRONZE_MESSAGES, [message_row(offset) for offset in present])
    result = offsets(lake)
    assert not result.passed
    assert (result.figures["missing_offsets"], result.figures["double_offsets"]) == (missing, double)


def test_recent_looks_only_at_recent_dates(lake: Settings) -> None:
    append_rows(lake, BRONZE_MESSAGES, [message_row(1, NOON_US), message_row(3, NOON_US)])
    append_rows(lake, BRONZE_MESSAGES, [message_row(4, NOW_US - DAY_US), message_row(5, NOW_US)])
    assert offsets(lake, recent=True).figures["rows"] == 2
    assert offsets(lake, recent=True).passed
    assert not offsets(lake).passed


def test_recent_is_not_misled_by_a_message_dated_a_day_earlier(lake: Settings) -> None:
    rows = [message_row(1, NOW_US - 2 * DAY_US), message_row(2, NOW_US), message_row(3, NOW_US - 2 * DAY_US)]
    append_rows(lake, BRONZE_MESSAGES, [*rows, message_row(4, NOW_US)])
    assert offsets(lake, recent=True).passed


def test_recent_finds_a_recent_gap(lake: Settings) -> None:
    append_rows(lake, BRONZE_MESSAGES, [message_row(2, NOW_US), message_row(4, NOW_US)])
    assert offsets(lake, recent=True).figures["missing_offsets"] == 1


def test_recent_means_yesterday_and_today_in_utc() -> None:
    assert first_recent_date(dt.datetime(2026, 3, 1, 0, 0, 1, tzinfo=dt.UTC)) == dt.date(2026, 2, 28)


# ------------------------------------------------------------------------------------------------ silver


def test_keys_unique_over_venue_symbol_and_id(lake: Settings) -> None:
    rows = [trade_row(1), trade_row(2), trade_row(1, venue="kraken"), trade_row(1, symbol="ETH/USDT")]
    append_rows(lake, SILVER_TRADES, rows)
    result = evaluate(lake, "key_unique", "silver/trades")
    assert result.passed
    assert result.figures == {"rows": 4, "double_keys": 0, "surplus_rows": 0}


def test_a_key_in_two_commits_and_dates_fails(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1), trade_row(2)])
    append_rows(lake, SILVER_TRADES, [trade_row(1, NOON_US + DAY_US), trade_row(1, price=Decimal(7))])
    result = evaluate(lake, "key_unique", "silver/trades")
    assert not result.passed
    assert result.figures == {"rows": 4, "double_keys": 1, "surplus_rows": 2}
    assert result.detail == "1 trade of 2 more than once: 2 rows too many."


def test_smallest_and_largest_decimals_are_positive(lake: Settings) -> None:
    rows = [trade_row(1, price=Decimal("1e-18"), size=Decimal("99999999999999999999.999999999999999999"))]
    append_rows(lake, SILVER_TRADES, rows)
    assert evaluate(lake, "prices_and_sizes_positive", "silver/trades").passed


@pytest.mark.parametrize("bad", [Decimal(0), Decimal("-1e-18"), Decimal(-5)])
def test_zero_and_negative_prices_and_sizes_fail(lake: Settings, bad: Decimal) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1), trade_row(2, price=bad), trade_row(3, size=bad)])
    result = evaluate(lake, "prices_and_sizes_positive", "silver/trades")
    assert not result.passed
    assert result.figures == {"rows": 3, "bad_prices": 1, "bad_sizes": 1}


# ------------------------------------------------------------------------------------------------ gold


@pytest.mark.parametrize("table", [GOLD_BARS_1M, GOLD_BARS_5M], ids=lambda table: table.name)
def test_consistent_bars_pass_also_at_the_edges(lake: Settings, table: Any) -> None:
    flat: dict[str, Any] = {name: Decimal("0.1") for name in ("open", "high", "low", "close", "vwap")}
    one_sided: dict[str, Any] = {
        "volume": Decimal(4),
        "buy_volume": Decimal(0),
        "sell_volume": Decimal(4),
        "pressure": Decimal(-1),
    }
    half = Decimal("49999999999999999999.5")
    huge: dict[str, Any] = {"volume": 2 * half, "buy_volume": half, "sell_volume": half, "pressure": Decimal(0)}
    rows = [bar_row(), bar_row(NOON_US + 1, **flat), bar_row(NOON_US + 2, **one_sided), bar_row(NOON_US + 3, **huge)]
    append_rows(lake, table, rows)
    result = evaluate(lake, "bars_consistent", table.path)
    assert result.passed, result
    assert result.detail == "Every bar is consistent in itself: 4 bars."


def test_a_dust_bar_whose_product_was_rounded_away_passes(lake: Settings) -> None:
    # 0.4 × 10^-18 is rounded to 0 at the 18th decimal, so vwap is 0 and below the low: right by the definition.
    dust: dict[str, Any] = {name: Decimal("0.4") for name in ("open", "high", "low", "close")}
    volumes: dict[str, Any] = {"volume": Decimal("1e-18"), "buy_volume": Decimal("1e-18"), "sell_volume": Decimal(0)}
    row = bar_row(**dust, **volumes, vwap=Decimal(0), quote_volume=Decimal(0), trades=1, pressure=Decimal(1))
    append_rows(lake, GOLD_BARS_1M, [row])
    assert evaluate(lake, "bars_consistent", "gold/bars_1m").passed


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"open": Decimal("12.000000000000000001")}, "prices"),
        ({"open": Decimal("8.999999999999999999")}, "prices"),
        ({"close": Decimal(13)}, "prices"),
        ({"close": Decimal(8)}, "prices"),
        ({"vwap": Decimal("12.00000000000000001")}, "vwap"),
        ({"vwap": Decimal("8.99999999999999999")}, "vwap"),
        ({"volume": Decimal("4.000000000000000001")}, "volumes"),
        ({"buy_volume": Decimal(5), "sell_volume": Decimal(-1)}, "volumes"),
        ({"trades": 0}, "trades"),
        ({"pressure": Decimal("1.000000000000000001")}, "pressure"),
        ({"pressure": Decimal("-1.000000000000000001")}, "pressure"),
    ],
)
def test_each_inconsistency_fails(lake: Settings, columns: dict[str, Any], rule: str) -> None:
    append_rows(lake, GOLD_BARS_1M, [bar_row(NOON_US + 1), bar_row(**columns)])
    result = evaluate(lake, "bars_consistent", "gold/bars_1m")
    assert not result.passed
    assert (result.figures["bars"], result.figures["bad_bars"], result.figures[f"bad_{rule}"]) == (2, 1, 1)
    assert result.detail == f"1 of 2 bars wrong: {rule} in 1."


def test_an_overflow_is_a_failed_check_not_a_crash(lake: Settings) -> None:
    most = Decimal("99999999999999999999")
    append_rows(lake, GOLD_BARS_1M, [bar_row(volume=most, buy_volume=-most)])
    result = evaluate(lake, "bars_consistent", "gold/bars_1m")
    assert not result.passed
