"""Bars → moves: the comparison is exact, the figure is rounded."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import GOLD_BARS_1M, GOLD_MOVES
from lakehouse.transforms.moves import moves

MINUTE = 60_000_000
#: 2026-01-01 00:00 UTC.
NEW_YEAR = 1_767_225_600_000_000
READ = ("venue", "symbol", "bar_start", "open", "close", "trades", "volume")
SCHEMA = pa.schema([arrow_schema(GOLD_BARS_1M).field(name) for name in READ])
TWO_PERCENT = Decimal("0.02")


def bar(opened: str, closed: str, minute: int = 0, venue: str = "binance", symbol: str = "BTC/USDT") -> dict[str, Any]:
    return {
        "venue": venue,
        "symbol": symbol,
        "bar_start": NEW_YEAR + minute * MINUTE,
        "open": Decimal(opened),
        "close": Decimal(closed),
        "trades": 3,
        "volume": Decimal("1.5"),
    }


def table(bars: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(bars, schema=SCHEMA)


def rows(bars: list[dict[str, Any]], threshold: Decimal = TWO_PERCENT) -> list[dict[str, Any]]:
    """The moves, with bar_start in µs since the epoch."""
    found = moves(table(bars), threshold)
    return found.set_column(2, "bar_start", found.column("bar_start").cast(pa.int64())).to_pylist()


def test_a_move_up_and_a_move_down() -> None:
    assert rows([bar("100", "103.5", 1), bar("300", "200", 0)]) == [
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "bar_start": NEW_YEAR,
            "direction": "down",
            "from_price": Decimal("300"),
            "to_price": Decimal("200"),
            "change": Decimal("-0.333333333333333333"),
            "trades": 3,
            "volume": Decimal("1.5"),
        },
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "bar_start": NEW_YEAR + MINUTE,
            "direction": "up",
            "from_price": Decimal("100"),
            "to_price": Decimal("103.5"),
            "change": Decimal("0.035"),
            "trades": 3,
            "volume": Decimal("1.5"),
        },
    ]


@pytest.mark.parametrize(
    ("opened", "closed", "threshold", "change"),
    [
        ("100", "102", "0.02", None),  # met, not exceeded
        ("100", "98", "0.02", None),
        ("100", "102.000000000000000001", "0.02", "0.02"),  # above by 10⁻²⁰ of the open: a move, rounded to the border
        ("100", "97.999999999999999999", "0.02", "-0.02"),
        ("1", "1.020000000000000001", "0.02", "0.020000000000000001"),
        ("1", "1.02", "0.02", None),
        ("3", "4", "0.333333333333333333", "0.333333333333333333"),  # a third is above its own rounding
        ("3", "4", "0.333333333333333334", None),
        ("3", "5", "0.666666666666666667", None),  # two thirds are below theirs
        ("100", "100", "0.02", None),
        ("100", "100", "1E-30", None),
        ("99999999999999999999", "99999999999999999999.000000000000000001", "1E-38", "0"),
        ("99999999999999999999", "99999999999999999999.000000000000000001", "1.1E-38", None),
        ("100", "250", "1.5", None),  # thresholds above 1 are for rises alone
        ("100", "251", "1.5", "1.51"),
        ("100", "0.000000000000000001", "1.5", None),
        ("100", "103", "2E-2", "0.03"),
    ],
)
def test_the_threshold_is_compared_exactly(opened: str, closed: str, threshold: str, change: str | None) -> None:
    found = [row["change"] for row in rows([bar(opened, closed)], Decimal(threshold))]
    assert found == ([] if change is None else [Decimal(change)])


def test_a_change_of_half_a_unit_goes_away_from_zero() -> None:
    up, down = bar("2", "2.000000000000000001", 0), bar("2", "1.999999999999999999", 1)
    assert [(row["direction"], row["change"]) for row in rows([up, down], Decimal("1E-19"))] == [
        ("up", Decimal("0.000000000000000001")),
        ("down", Decimal("-0.000000000000000001")),
    ]


def test_from_one_minute_to_the_next_there_is_no_move() -> None:
    assert rows([bar("100", "100", 0), bar("200", "200", 1)]) == []


def test_series_stay_apart_and_come_sorted() -> None:
    bars = [bar("1", "2", 5, "kraken"), bar("1", "3", 6), bar("1", "4", 5), bar("1", "5", 0, symbol="ETH/USDT")]
    assert [row["to_price"] for row in rows(bars)] == [4, 3, 5, 2]


def test_types_and_nullability_are_the_registrys() -> None:
    kept = [field for field in arrow_schema(GOLD_MOVES) if field.name not in ("revision", "updated_at", "bar_date")]
    for bars in ([], [bar("1", "1")], [bar("1", "2")]):
        assert moves(table(bars), TWO_PERCENT).schema == pa.schema(kept)


def test_chunks_and_extra_columns_change_nothing() -> None:
    bars = [bar("1", str(minute), minute) for minute in range(1, 8)]
    chunked = pa.concat_tables([table([one]) for one in reversed(bars)]).append_column("high", pa.array([None] * 7))
    chunked = chunked.set_column(0, "venue", chunked.column("venue").dictionary_encode())
    assert moves(chunked, TWO_PERCENT).equals(moves(table(bars), TWO_PERCENT))
    assert moves(table(bars).slice(3), TWO_PERCENT).equals(moves(table(bars[3:]), TWO_PERCENT))


def test_a_change_that_does_not_fit_is_missing_and_not_cut() -> None:
    (row,) = moves(table([bar("0.000000000000000001", "1000")]), TWO_PERCENT).to_pylist()
    assert (row["change"], row["direction"]) == (None, "up")


figures = st.one_of(st.integers(1, 10**21), st.integers(10**18, 10**18 + 100), st.integers(98, 103).map(lambda n: n))


@settings(deadline=None)
@given(
    st.lists(st.tuples(figures, figures), max_size=20),
    st.one_of(st.decimals("0.000001", "3", places=6), st.sampled_from([Decimal("0.02"), Decimal("1E-18")])),
    st.randoms(use_true_random=False),
)
def test_moves_are_as_fractions_say_in_any_order(
    prices: list[tuple[int, int]], threshold: Decimal, luck: random.Random
) -> None:
    bars = [
        bar(f"{opened}E-18", f"{closed}E-18", minute, luck.choice(("kraken", "coinbase")))
        for minute, (opened, closed) in enumerate(prices)
    ]
    wanted = []
    for one in sorted(bars, key=lambda one: (one["venue"], one["bar_start"])):
        change = Fraction(one["close"]) / Fraction(one["open"]) - 1
        if change > Fraction(threshold) or change < -Fraction(threshold):
            magnitude = math.floor(abs(change) * 10**18 + Fraction(1, 2))
            signed = Decimal(f"{'-' if change < 0 else ''}{magnitude}E-18")
            wanted.append((one["venue"], one["bar_start"], "up" if change > 0 else "down", signed))
    found = rows(luck.sample(bars, len(bars)), threshold)
    assert [(row["venue"], row["bar_start"], row["direction"], row["change"]) for row in found] == wanted
