"""One-minute bars → indicators, by hand."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import GOLD_INDICATORS_1M
from tests.support.indicator_bars import (
    MINUTE,
    NEW_YEAR,
    Bar,
    affected,
    bar,
    indicators,
    place,
    rows,
    table,
)


def column(name: str, bars: Collection[Bar]) -> list[Any]:
    return [row[name] for row in rows(bars)]


def test_the_start_of_a_series() -> None:
    bars = [
        bar(0, "1", "1", "1"),
        bar(1, "2", "1", "2"),
        bar(2, "3", "1", "3"),
        bar(3, "4", "2", "8"),
        bar(4, "6", "2", "12"),
    ]
    found = rows(bars)
    assert found[0] == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": NEW_YEAR,
        "close": Decimal("1"),
    } | dict.fromkeys(("sma_5", "sma_20", "sma_60", "vwap_5", "vwap_20", "vwap_60")) | dict.fromkeys(
        ("minutes_since_previous", "simple_return", "log_return")
    )
    assert found[4] == {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "bar_start": NEW_YEAR + 4 * MINUTE,
        "close": Decimal("6"),
        "sma_5": Decimal("3.2"),  # 16 ÷ 5
        "sma_20": None,
        "sma_60": None,
        "vwap_5": Decimal("3.714285714285714286"),  # 26 ÷ 7
        "vwap_20": None,
        "vwap_60": None,
        "minutes_since_previous": 1,
        "simple_return": Decimal("0.5"),
        "log_return": Decimal("0.405465108108164382"),  # ln 1.5 = 0.405465108108164381978…
    }
    assert [row["sma_5"] for row in found[:4]] == [None] * 4
    assert [row["simple_return"] for row in found[1:4]] == [1, Decimal("0.5"), Decimal("0.333333333333333333")]
    assert [row["log_return"] for row in found[1:4]] == [
        Decimal("0.693147180559945309"),  # ln 2 = 0.693147180559945309417…
        Decimal("0.405465108108164382"),
        Decimal("0.287682072451780927"),  # ln 4⁄3 = 0.287682072451780927439…
    ]


@pytest.mark.parametrize("span", [5, 20, 60])
def test_a_span_has_its_first_value_at_its_last_bar(span: int) -> None:
    bars = [bar(minute, str(minute + 1), "2", str(minute)) for minute in range(70)]
    means, vwaps = column(f"sma_{span}", bars), column(f"vwap_{span}", bars)
    assert [value is None for value in means] == [value is None for value in vwaps] == [n < span - 1 for n in range(70)]
    assert means[span - 1] == (Decimal(span) + 1) / 2
    assert vwaps[span - 1] == Decimal(span - 1) / 4
    assert means[69] == 70 - (Decimal(span) - 1) / 2  # the bars of before are out again


def test_a_mean_of_half_a_unit_goes_away_from_zero() -> None:
    bars = [bar(minute) for minute in range(19)]
    assert column("sma_20", [*bars, bar(19, "1.00000000000000001")])[-1] == Decimal("1.000000000000000001")  # 10 ÷ 20
    assert column("sma_20", [*bars, bar(19, "1.000000000000000009")])[-1] == Decimal("1")  # 9 ÷ 20


def test_windows_are_over_bars_and_not_over_minutes() -> None:
    bars = [bar(minute, close) for minute, close in ((0, "1"), (3, "2"), (4, "3"), (90, "4"), (200, "6"))]
    assert column("sma_5", bars)[-1] == Decimal("3.2")
    assert column("minutes_since_previous", bars) == [None, 3, 1, 86, 110]


def test_the_lookbacks_border() -> None:
    newest = [bar(minute, "3") for minute in (300, 301, 302, 303)]
    assert column("sma_5", [bar(303 - 239, "8"), *newest])[-1] == Decimal("4")
    assert column("vwap_5", [bar(303 - 239, "8"), *newest])[-1] == Decimal("1")
    assert column("sma_5", [bar(303 - 240, "8"), *newest])[-1] is None
    assert column("vwap_5", [bar(303 - 240, "8"), *newest])[-1] is None
    for gap, minutes, simple in ((239, 239, Decimal("0.5")), (240, None, None), (241, None, None)):
        last = rows([bar(0, "2"), bar(gap, "3")])[-1]
        assert (last["minutes_since_previous"], last["simple_return"]) == (minutes, simple)
        assert (last["log_return"] is None) == (simple is None)


def test_behind_a_gap_beyond_the_lookback_the_series_starts_again() -> None:
    bars = [bar(minute) for minute in (*range(10), *range(1000, 1010))]
    expected = [None] * 4 + [Decimal(1)] * 6
    assert column("sma_5", bars) == expected * 2
    assert column("sma_20", bars) == [None] * 20
    assert column("minutes_since_previous", bars) == [None, *[1] * 9] * 2


def test_a_market_that_trades_too_seldom_has_no_mean_but_returns() -> None:
    bars = [bar(minute) for minute in range(0, 6000, 60)]
    assert set(column("sma_5", bars)) == {None}
    assert column("minutes_since_previous", bars) == [None, *[60] * 99]


def test_falling_prices_have_negative_returns() -> None:
    last = rows([bar(0, "3"), bar(1, "2")])[-1]
    assert last["simple_return"] == Decimal("-0.333333333333333333")
    assert last["log_return"] == Decimal("-0.405465108108164382")
    assert rows([bar(0, "3"), bar(1, "3")])[-1]["log_return"] == 0


@pytest.mark.parametrize(
    ("close", "simple", "logarithm"),
    [
        # ln(1 + x) = x − x²/2 + …: of half a unit the logarithm lies 1.25·10⁻³⁷ below the tie, the return on it.
        ("2.000000000000000001", "0.000000000000000001", "0"),
        ("1.999999999999999999", "-0.000000000000000001", "-0.000000000000000001"),
        ("2.000000000000000003", "0.000000000000000002", "0.000000000000000001"),
        ("1.999999999999999997", "-0.000000000000000002", "-0.000000000000000002"),
    ],
)
def test_returns_of_half_units(close: str, simple: str, logarithm: str) -> None:
    last = rows([bar(0, "2"), bar(1, close)])[-1]
    assert (last["simple_return"], last["log_return"]) == (Decimal(simple), Decimal(logarithm))


def test_series_stay_apart_and_come_sorted() -> None:
    bars = [bar(0, "2", venue="kraken"), bar(1, "3"), bar(1, "8", venue="kraken"), bar(0, "5", symbol="ETH/USDT")]
    assert [(row["venue"], row["symbol"], row["close"], row["simple_return"]) for row in rows(bars)] == [
        ("binance", "BTC/USDT", 3, None),
        ("binance", "ETH/USDT", 5, None),
        ("kraken", "BTC/USDT", 2, None),
        ("kraken", "BTC/USDT", 8, 3),
    ]


def test_types_and_nullability_are_the_registrys() -> None:
    left_out = ("revision", "updated_at", "bar_date")
    kept = pa.schema([field for field in arrow_schema(GOLD_INDICATORS_1M) if field.name not in left_out])
    for bars in ([], [bar(0)], [bar(0), bar(1)]):
        assert indicators(table(bars)).schema == kept
        assert indicators(table(bars), []).equals(kept.empty_table())
    assert affected(table([]), [place(0)]) == set()
    assert affected(table([bar(0)]), []) == set()


def test_wanted_bars_that_are_not_there_have_no_row() -> None:
    bars = [bar(0, "1"), bar(1, "2")]
    assert rows(bars, [place(1), place(2), place(1, "kraken")]) == rows(bars)[1:]


def test_chunks_and_extra_columns_change_nothing() -> None:
    bars = [bar(minute, str(minute + 1)) for minute in range(9)]
    chunked = pa.concat_tables([table([one]) for one in reversed(bars)]).append_column("open", pa.array([None] * 9))
    chunked = chunked.set_column(0, "venue", chunked.column("venue").dictionary_encode())
    assert indicators(chunked).equals(indicators(table(bars)))
    assert indicators(table(bars).slice(3, 4)).equals(indicators(table(bars[3:7])))
    assert affected(chunked, [place(7)]) == {place(7), place(8)}


def test_a_return_that_does_not_fit_is_missing_and_not_cut() -> None:
    first, second = indicators(table([bar(0, "0.000000000000000001"), bar(1, "1000")])).to_pylist()
    assert (first["simple_return"], second["simple_return"]) == (None, None)
    assert second["log_return"] is not None
