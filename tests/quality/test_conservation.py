from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import batch_log
from lakehouse.lake.table_io import append_rows, open_table, row_count
from lakehouse.quality.checks import CHECKS, CheckResult, run_checks
from lakehouse.quality.model import Look
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, OPS_BATCHES, OPS_CHECKS, SILVER_TRADES
from tests.support.rows import NOON_US, bar_row, batch_row, empty_lake, trade_row

NOW_US = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path)


def evaluate(settings: Settings, name: str, table_path: str, recent: bool = False) -> CheckResult:
    check = next(check for check in CHECKS if (check.name, check.table_path) == (name, table_path))
    return check.evaluate(settings, Look.LATELY if recent else Look.ALL)


# ------------------------------------------------------------------------------------------------ conservation


def gold_batch(settings: Settings, batch_id: int, at: int = NOON_US, **source_end: Any) -> None:
    """A gold batch that has just been committed at the tables' present versions."""
    end = {"version": open_table(settings, SILVER_TRADES).version(), "complete": True} | source_end
    versions = {table.path: open_table(settings, table).version() for table in (GOLD_BARS_1M, GOLD_BARS_5M)}
    append_rows(settings, OPS_BATCHES, [batch_row("gold", batch_id, at, source_end=end, versions=versions)])


def conserved(settings: Settings, table: str = "gold/bars_1m") -> CheckResult:
    return evaluate(settings, "trades_conserved", table)


def test_trades_conserved_at_the_version_that_gold_processed(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(n) for n in range(5)])
    append_rows(lake, GOLD_BARS_1M, [bar_row(trades=2), bar_row(NOON_US + 1, trades=3)])
    append_rows(lake, GOLD_BARS_5M, [bar_row(trades=5)])
    gold_batch(lake, 0)
    append_rows(lake, SILVER_TRADES, [trade_row(n) for n in range(5, 9)])  # not processed yet
    for table in ("gold/bars_1m", "gold/bars_5m"):
        result = conserved(lake, table)
        assert result.passed, result
        assert (result.figures["trades"], result.figures["silver_rows"], result.figures["silver_version"]) == (5, 5, 1)
    assert conserved(lake).detail == "2 bars hold 5 trades, all of Silver at version 1."


@pytest.mark.parametrize(("in_bars", "difference"), [(4, -1), (6, 1)])
def test_a_lost_and_a_doubled_trade_fail(lake: Settings, in_bars: int, difference: int) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(n) for n in range(5)])
    append_rows(lake, GOLD_BARS_1M, [bar_row(trades=in_bars)])
    gold_batch(lake, 0)
    result = conserved(lake)
    assert not result.passed
    assert result.figures["difference"] == difference


def test_bars_of_a_batch_that_is_under_way_do_not_count(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1)])
    append_rows(lake, GOLD_BARS_1M, [bar_row(trades=1)])
    gold_batch(lake, 0)
    append_rows(lake, SILVER_TRADES, [trade_row(2)])
    append_rows(lake, GOLD_BARS_1M, [bar_row(NOON_US + 1, trades=1)])  # bars are committed before ops/batches
    assert conserved(lake).passed


def test_the_newest_gold_batch_counts_also_of_a_new_generation(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1)])
    gold_batch(lake, 41)  # wrong on purpose: a trade in Silver, none in the bars
    assert not conserved(lake).passed
    append_rows(lake, GOLD_BARS_1M, [bar_row(trades=1)])
    gold_batch(lake, 0, NOON_US + 1)
    assert conserved(lake).passed


def test_a_batch_that_ended_inside_a_version_is_passed_over(lake: Settings) -> None:
    append_rows(lake, SILVER_TRADES, [trade_row(1)])
    gold_batch(lake, 0, complete=False)
    assert "othing written yet" in conserved(lake).detail
    append_rows(lake, GOLD_BARS_1M, [bar_row(trades=1)])
    gold_batch(lake, 1, NOON_US + 1)
    append_rows(lake, SILVER_TRADES, [trade_row(2), trade_row(3)])
    append_rows(lake, GOLD_BARS_1M, [bar_row(NOON_US + 1, trades=1)])
    gold_batch(lake, 2, NOON_US + 2, complete=False)
    result = conserved(lake)
    assert result.passed
    assert result.figures["silver_version"] == 1


@pytest.mark.parametrize(
    "columns",
    [{"source_end": "{}"}, {"source_end": "not JSON"}, {"versions": "[]"}, {"source_end": {"version": 99}}],
)
def test_an_unreadable_ledger_is_a_failed_check(lake: Settings, columns: dict[str, Any]) -> None:
    versions = {"gold/bars_1m": 0, "gold/bars_5m": 0}
    append_rows(lake, OPS_BATCHES, [batch_row("gold", 0, **{"versions": versions} | columns)])
    result = conserved(lake)
    assert not result.passed
    assert result.detail.startswith("Could not be evaluated: ")
    assert "\n" not in result.detail


def test_nothing_dropped(lake: Settings) -> None:
    parts = {"rows_out": 6, "rows_duplicate": 2, "rows_quarantined": 1, "rows_feed_events": 1}
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 0, rows_in=10, **parts), batch_row("silver", 1)])
    append_rows(lake, OPS_BATCHES, [batch_row("bronze", 0, rows_in=99)])  # another query's books
    result = evaluate(lake, "nothing_dropped", "silver/trades")
    assert result.passed
    assert result.detail == "10 messages read = 6 trades + 2 duplicates + 1 quarantined + 1 feed events."


def test_a_loss_is_not_hidden_by_a_surplus(lake: Settings) -> None:
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 0, rows_in=10, rows_out=9)])
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 1, rows_in=10, rows_out=11)])
    result = evaluate(lake, "nothing_dropped", "silver/trades")
    assert not result.passed
    assert (result.figures["unbalanced_batches"], result.figures["unaccounted"]) == (2, 0)


def test_recent_batches_only(lake: Settings) -> None:
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 0, rows_in=1)])
    assert not evaluate(lake, "nothing_dropped", "silver/trades").passed
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 1, NOW_US, rows_in=3, rows_out=3)])
    result = evaluate(lake, "nothing_dropped", "silver/trades", recent=True)
    assert result.passed
    assert result.figures["batches"] == 1


# ------------------------------------------------------------------------------------------------ the ledger


def ends(settings: Settings) -> dict[str, int]:
    return {query: batch.batch_id for query, batch in batch_log.newest_batches(settings).items()}


def test_newest_batches_of_small_and_of_compacted_files(lake: Settings) -> None:
    for n in range(6):
        query = ("bronze", "silver", "gold")[n % 3]
        append_rows(lake, OPS_BATCHES, [batch_row(query, n, NOON_US + 1000 * n)])
    expected = {"bronze": 3, "silver": 4, "gold": 5}
    assert ends(lake) == expected
    open_table(lake, OPS_BATCHES).optimize.compact()
    assert len(open_table(lake, OPS_BATCHES).file_uris()) == 1
    assert ends(lake) == expected
    append_rows(lake, OPS_BATCHES, [batch_row("silver", 9, NOON_US + 9000)])
    assert ends(lake) == expected | {"silver": 9}


def test_newest_batch_within_a_millisecond_and_by_id_in_a_tie(lake: Settings) -> None:
    """Statistics are cut to milliseconds, rows are not."""
    for batch_id, at in ((0, NOON_US + 900), (1, NOON_US + 100), (2, NOON_US + 900)):
        append_rows(lake, OPS_BATCHES, [batch_row("gold", batch_id, at)])
    assert ends(lake) == {"gold": 2}


def test_newest_verdicts_look_back_only_where_one_is_missing(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_log, "RECENT_COMMITS", 2)
    unique, positive = (check for check in CHECKS if check.name in ("key_unique", "prices_and_sizes_positive"))
    run_checks(lake, [positive])
    for _ in range(4):
        run_checks(lake, [unique])
    append_rows(lake, SILVER_TRADES, [trade_row(1), trade_row(1)])
    run_checks(lake, [unique])
    names: Callable[[list[batch_log.Verdict]], list[tuple[str, bool]]] = lambda found: [  # noqa: E731
        (verdict.check_name, verdict.passed) for verdict in found
    ]
    assert names(batch_log.newest_verdicts(lake, {("silver/trades", "key_unique")})) == [("key_unique", False)]
    expected = {("silver/trades", "key_unique"), ("silver/trades", "prices_and_sizes_positive")}
    assert names(batch_log.newest_verdicts(lake, expected)) == [
        ("key_unique", False),
        ("prices_and_sizes_positive", True),
    ]
    assert row_count(open_table(lake, OPS_CHECKS)) == 6
