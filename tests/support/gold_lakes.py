"""Small lakes of trades for the tests of the Gold stream, and what its bars say of themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from lakehouse.lake.table_io import append_rows, ensure_tables, sql
from lakehouse.quality.checks import checks_of_lake
from lakehouse.quality.model import Look
from lakehouse.settings import Settings
from lakehouse.streams import gold
from lakehouse.streams.materialize import materialize
from lakehouse.tables import OPS_BATCHES, SILVER_TRADES
from tests.conftest import SettingsFactory
from tests.support.bar_fold import BAR_VALUES
from tests.support.rows import NOON_US, trade_row
from tests.support.truth import assert_bars_equal_fold, read_bars

MINUTE_US = 60_000_000
DAY = 24 * 60
#: (trade id, minute after noon)
Trades = Iterable[tuple[int, float]]


def fresh_lake(settings_factory: SettingsFactory, **overrides: Any) -> Settings:
    settings = settings_factory(trigger="1 second", **overrides)
    ensure_tables(settings)
    return settings


def row(number: int, minute: float, venue: str = "binance") -> dict[str, Any]:
    return trade_row(number, NOON_US + round(minute * MINUTE_US) + number % 997, venue=venue)


def put(settings: Settings, made: Trades, **columns: Any) -> None:
    """One version of Silver, a file a day."""
    append_rows(settings, SILVER_TRADES, [row(number, minute, **columns) for number, minute in made])


def assert_exact(settings: Settings) -> None:
    """Gold is the brute-force fold of Silver, flags included, and says so by itself."""
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes)
    for check in checks_of_lake(settings):
        if check.name in ("complete_proved", "bars_consistent", "trades_conserved"):
            result = check.evaluate(settings, Look.ALL)
            assert result.passed, (check.table_path, result)


def catch_up(settings: Settings) -> None:
    """A new Gold query, up to the newest Silver."""
    materialize(settings, ("gold",), timeout=120)
    assert_exact(settings)


def flags(settings: Settings, minutes: int = 1) -> list[tuple[int, bool, int]]:
    """(minute after noon, complete, revision) of Binance's bars."""
    return [
        ((bar["bar_start"] - NOON_US) // MINUTE_US, bar["complete"], bar["revision"])
        for bar in read_bars(settings, minutes)
        if bar["venue"] == "binance"
    ]


def batches(settings: Settings) -> int:
    return int(sql(settings, "SELECT count(*) AS n FROM b WHERE query = 'gold'", b=OPS_BATCHES).to_pylist()[0]["n"])


def content(settings: Settings) -> list[list[dict[str, Any]]]:
    """Both tables without revision and updated_at."""
    names = ("venue", "symbol", "bar_start", *BAR_VALUES)
    return [[{name: bar[name] for name in names} for bar in read_bars(settings, minutes)] for minutes in (1, 5)]


def one_file_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a query takes many batches, and batches end inside versions of Silver."""
    monkeypatch.setattr(gold, "MAX_BYTES_PER_TRIGGER", "1b")
