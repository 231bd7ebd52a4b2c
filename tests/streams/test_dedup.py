"""Repeats of trades that silver/trades has, compared as Arrow: against the rule in plain Python; verdicts in words."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import dedup, kept_trades
from lakehouse.tables import SILVER_TRADES
from tests.support.rows import NOON_US, empty_lake, trade_row

WINDOW_US = 5 * 60_000_000
DAY_US = 86_400_000_000


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table_io.arrow_schema(SILVER_TRADES))


def unlike(settings: Settings, *rows: dict[str, Any]) -> list[bool]:
    """Which of the repeats conflict. Each gets a position of its own, by which its verdict is known."""
    at = [row | {"kafka_partition": 3, "kafka_offset": number} for number, row in enumerate(rows)]
    verdicts = dedup.conflicts(table(at), kept_trades.in_silver(settings)).to_pylist()
    assert all((one["kafka_topic"], one["kafka_partition"]) == ("crypto.trades", 3) for one in verdicts)
    found = [one["kafka_offset"] for one in verdicts]
    assert len(set(found)) == len(found)
    return [number in found for number in range(len(rows))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"price": Decimal("100.500000000000000001")}, True),
        ({"size": Decimal("0.2500")}, False),  # by value
        ({"size": Decimal("0.26")}, True),
        ({"side": "sell"}, True),
        ({"source": "repair", "native_symbol": "other"}, False),  # not what makes a trade
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
    monkeypatch.setattr(kept_trades, "_JOIN_ROWS", 50)
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


NOON = "2026-11-01 12:00:00"
FOUND = f"found buy 0.25 at 100.5 {NOON}; the trade of this id is "


@pytest.mark.parametrize(
    ("stored", "repeat", "detail"),
    [
        ({"price": Decimal(100)}, {}, f"{FOUND}buy 0.25 at 100 {NOON}"),
        ({"size": Decimal("1E-18")}, {}, f"{FOUND}buy 0.000000000000000001 at 100.5 {NOON}"),
        ({"size": Decimal(20)}, {"side": "sell"}, f"found sell{FOUND[9:]}buy 20 at 100.5 {NOON}"),
        # A time without needless zeros; one in the same window, or within a millisecond of it.
        ({"at": NOON_US + 1_500}, {}, f"{FOUND}buy 0.25 at 100.5 {NOON}.0015"),
        ({"at": NOON_US + WINDOW_US - 1}, {}, f"{FOUND}buy 0.25 at 100.5 2026-11-01 12:04:59.999999"),
        ({"at": NOON_US + WINDOW_US + 999}, {}, f"{FOUND}buy 0.25 at 100.5 2026-11-01 12:05:00.000999"),
        ({"at": NOON_US + WINDOW_US + 1_000}, {}, f"{FOUND}another time"),
        ({"at": NOON_US - 1_000}, {}, f"{FOUND}buy 0.25 at 100.5 2026-11-01 11:59:59.999"),
        ({"at": NOON_US - 1_001}, {}, f"{FOUND}another time"),
        ({"trade_id": 2}, {}, f"{FOUND}another time"),
    ],
)
def test_a_verdict_says_both_contents(
    tmp_path: Path, stored: dict[str, Any], repeat: dict[str, Any], detail: str
) -> None:
    settings = empty_lake(tmp_path)
    table_io.append_rows(settings, SILVER_TRADES, [trade_row(**({"trade_id": 1} | stored))])
    # Another repeat, whose windows reach over the whole day, changes nothing about this one.
    far = [trade_row(10 + n, at=NOON_US - DAY_US // 2 + n * 2 * WINDOW_US) for n in range(144)]
    for repeats in ([trade_row(1, **repeat)], [*far, trade_row(1, **repeat)]):
        verdicts = dedup.conflicts(table(repeats), kept_trades.in_silver(settings))
        assert verdicts.schema == dedup.VERDICTS
        (mine,) = [one for one in verdicts.to_pylist() if one["kafka_offset"] == 1]
        assert (mine["rule"], mine["detail"]) == ("conflict", detail)


def test_the_trades_of_a_batch_that_are_in_the_table_are_counted(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    there = [trade_row(n, at=NOON_US + n * WINDOW_US * 3, kafka_partition=n % 2) for n in range(6)]
    table_io.append_rows(settings, SILVER_TRADES, there)
    # By their messages' places: the same ids of other places do not count.
    others = [row | {"kafka_offset": row["kafka_offset"] + 100} for row in there]
    more = [trade_row(50, kafka_partition=7)]
    counts = dedup.inserted_by_partition(table([*there[:5], *others, *more]), settings)
    assert counts == {("crypto.trades", 0): 3, ("crypto.trades", 1): 2}
    assert dedup.inserted_by_partition(table(more), settings) == {}
