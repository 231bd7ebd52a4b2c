"""Repeats of trades that silver/trades has, compared as Arrow: against the rule in plain Python."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import dedup
from lakehouse.tables import SILVER_TRADES
from tests.support.rows import NOON_US, empty_lake, trade_row

WINDOW_US = 5 * 60_000_000
DAY_US = 86_400_000_000


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_TRADES))


def unlike(settings: Settings, *rows: dict[str, Any]) -> list[bool]:
    return [bool(value) for value in dedup.unlike_silver(table(list(rows)), settings)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"price": Decimal("100.500000000000000001")}, True),
        ({"size": Decimal("0.2500")}, False),  # by value
        ({"size": Decimal("0.26")}, True),
        ({"side": "sell"}, True),
        ({"source": "repair", "kafka_offset": 99, "native_symbol": "other"}, False),  # not what makes a trade
        ({"venue": "kraken"}, True),  # another key: not there
        ({"symbol": "ETH/USDT"}, True),
    ],
)
def test_what_makes_a_repeat_the_same_trade(tmp_path: Path, changes: dict[str, Any], expected: bool) -> None:
    settings = empty_lake(tmp_path)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1)])
    assert unlike(settings, trade_row(1, **changes)) == [expected]


@pytest.mark.parametrize("stored", [NOON_US, NOON_US + WINDOW_US - 1, NOON_US - NOON_US % DAY_US + DAY_US])
@pytest.mark.parametrize("apart", [0, 1, 999, 1_000, WINDOW_US, DAY_US])
def test_times_may_differ_by_less_than_a_millisecond(tmp_path: Path, stored: int, apart: int) -> None:
    """Also across the edge of a window, and of a day."""
    settings = empty_lake(tmp_path)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(1, at=stored)])
    rows = [trade_row(1, at=stored + apart), trade_row(1, at=stored - apart)]
    assert unlike(settings, *rows) == [apart >= 1_000] * 2


def test_many_repeats_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "_JOIN_ROWS", 50)
    settings, chance = empty_lake(tmp_path), random.Random(7)
    kept: dict[int, Decimal] = {}
    for start in range(0, 400, 100):
        rows = [trade_row(n, at=NOON_US + n * 20_000_000, price=Decimal(n + 1)) for n in range(start, start + 100)]
        table_io.append_rows(settings, SILVER_TRADES, rows)
        kept |= {row["trade_id"]: row["price"] for row in rows}
    repeats = []
    for _ in range(300):
        number = chance.randrange(420)  # some were never there
        price = Decimal(number + 1 + chance.choice((0, 0, 0, 1)))
        repeats.append(trade_row(number, at=NOON_US + number * 20_000_000, price=price))
    expected = [kept.get(row["trade_id"]) != row["price"] for row in repeats]
    assert True in expected
    assert False in expected
    assert unlike(settings, *repeats) == expected
    assert unlike(settings) == []
