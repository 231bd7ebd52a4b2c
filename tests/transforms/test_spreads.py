"""Bars → spreads: each minute by itself, no currency taken for another."""

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

from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import GOLD_BARS_1M, GOLD_SPREADS_1M, SPREAD_VENUES
from lakehouse.transforms.spreads import spreads

MINUTE = 60_000_000
#: 2026-01-01 00:00 UTC.
NEW_YEAR = 1_767_225_600_000_000
SCHEMA = pa.schema([arrow_schema(GOLD_BARS_1M).field(name) for name in ("venue", "symbol", "bar_start", "close")])


def bar(venue: str, close: str, minute: int = 0, symbol: str = "BTC/USDT") -> dict[str, Any]:
    start = NEW_YEAR + minute * MINUTE
    return {"venue": venue, "symbol": symbol, "bar_start": start, "close": Decimal(close)}


def table(bars: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(bars, schema=SCHEMA)


def rows(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with bar_start in µs since the epoch."""
    found = spreads(table(bars))
    return found.set_column(2, "bar_start", found.column("bar_start").cast(pa.int64())).to_pylist()


def figures(bars: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("venues", "lowest_venue", "highest_venue", "spread", "spread_bps")
    return [tuple(row[name] for name in names) for row in rows(bars)]


def test_three_venues() -> None:
    assert rows([bar("kraken", "99"), bar("coinbase", "101"), bar("binance", "100.5")]) == [
        {
            "base": "BTC",
            "quote": "USDT",
            "bar_start": NEW_YEAR,
            "price_binance": Decimal("100.5"),
            "price_kraken": Decimal("99"),
            "price_coinbase": Decimal("101"),
            "venues": 3,
            "lowest_venue": "kraken",
            "highest_venue": "coinbase",
            "spread": Decimal("2"),
            "spread_bps": Decimal("202.020202020202020202"),  # 20,000 ÷ 99
        }
    ]


def test_basis_points_are_rounded_half_up() -> None:
    assert figures([bar("binance", "3"), bar("kraken", "5")])[0][4] == Decimal("6666.666666666666666667")
    # 10⁻¹⁸ × 10,000 ÷ 20,000 is half a unit.
    assert figures([bar("binance", "20000"), bar("kraken", "20000.000000000000000001")]) == [
        (2, "binance", "kraken", Decimal("0.000000000000000001"), Decimal("0.000000000000000001"))
    ]


@pytest.mark.parametrize("venue", SPREAD_VENUES)
def test_one_venue_has_a_price_and_no_spread(venue: str) -> None:
    row = rows([bar(venue, "7.25")])[0]
    assert {name: row[f"price_{name}"] for name in SPREAD_VENUES} == dict.fromkeys(SPREAD_VENUES) | {
        venue: Decimal("7.25")
    }
    assert [row[name] for name in ("venues", "lowest_venue", "highest_venue", "spread", "spread_bps")] == [
        1, None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prices", "lowest", "highest"),
    [
        (("5", "5", "5"), "binance", "binance"),
        ((None, "5", "5"), "kraken", "kraken"),
        (("5", None, "5"), "binance", "binance"),
        (("6", "5", "5"), "kraken", "binance"),
        (("5", "6", "6"), "binance", "kraken"),
        (("6", "5", "6"), "kraken", "binance"),
        (("5", "6", "5"), "binance", "kraken"),
    ],
)
def test_ties_go_to_the_first_venue(prices: tuple[str | None, ...], lowest: str, highest: str) -> None:
    bars = [bar(venue, price) for venue, price in zip(SPREAD_VENUES, prices, strict=True) if price is not None]
    venues, low, high, spread, points = figures(list(reversed(bars)))[0]
    assert (venues, low, high) == (len(bars), lowest, highest)
    assert (spread, points) == ((0, 0) if lowest == highest else (1, 2000))


def test_dollars_and_tethers_are_told_apart() -> None:
    bars = [
        bar("binance", "100", symbol="BTC/USDT"),
        bar("coinbase", "99", symbol="BTC/USD"),
        bar("kraken", "98", symbol="ETH/USD"),
    ]
    assert [(row["base"], row["quote"], row["venues"]) for row in rows(bars)] == [
        ("BTC", "USD", 1),
        ("BTC", "USDT", 1),
        ("ETH", "USD", 1),
    ]


def test_a_minute_without_trades_takes_no_price_from_the_one_before() -> None:
    bars = [bar("binance", "1", 0), bar("kraken", "2", 0), bar("kraken", "3", 1), bar("binance", "4", 3)]
    found = [(row["bar_start"], row["price_binance"], row["price_kraken"]) for row in rows(bars)]
    assert found == [(NEW_YEAR, 1, 2), (NEW_YEAR + MINUTE, None, 3), (NEW_YEAR + 3 * MINUTE, 4, None)]


def test_another_venue_is_an_error_in_one_line() -> None:
    with pytest.raises(TerminalError, match=r"^bars of the venue 'bitstamp'; expected one .*: binance, kraken, coinb"):
        spreads(table([bar("binance", "1"), bar("bitstamp", "1")]))


def test_types_and_nullability_are_the_registrys() -> None:
    left_out = ("revision", "updated_at", "bar_date")
    kept = pa.schema([field for field in arrow_schema(GOLD_SPREADS_1M) if field.name not in left_out])
    assert spreads(table([])).num_rows == 0
    for bars in ([], [bar("kraken", "1")], [bar("kraken", "1"), bar("binance", "2")]):
        assert spreads(table(bars)).schema == kept


def test_chunks_and_extra_columns_change_nothing() -> None:
    bars = [bar(venue, str(n + minute), minute) for minute in range(3) for n, venue in enumerate(SPREAD_VENUES, 1)]
    chunked = pa.concat_tables([table([one]) for one in reversed(bars)]).append_column("open", pa.array([None] * 9))
    chunked = chunked.set_column(0, "venue", chunked.column("venue").dictionary_encode())
    assert spreads(chunked).equals(spreads(table(bars)))
    assert spreads(table(bars).slice(2)).equals(spreads(table(bars[2:])))


def test_a_figure_that_does_not_fit_is_missing_and_not_cut() -> None:
    (row,) = spreads(table([bar("binance", "0.000000000000000001"), bar("kraken", "1")])).to_pylist()
    assert (row["spread_bps"], row["spread"]) == (None, Decimal("0.999999999999999999"))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(SPREAD_VENUES), st.sampled_from(["BTC/USD", "BTC/USDT", "A/B"]), st.integers(-2, 1)),
        st.one_of(st.integers(10**18 - 2, 10**18 + 2), st.integers(10**9, 10**24)),
    ),
    st.randoms(use_true_random=False),
)
def test_spreads_are_as_fractions_say_in_any_order(
    closes: dict[tuple[str, str, int], int], luck: random.Random
) -> None:
    bars = [bar(venue, f"{units}E-18", minute, symbol) for (venue, symbol, minute), units in closes.items()]
    found = rows(luck.sample(bars, len(bars)))
    places = {(symbol.split("/")[0], symbol.split("/")[1], minute) for _, symbol, minute in closes}
    assert [(row["base"], row["quote"], (row["bar_start"] - NEW_YEAR) // MINUTE) for row in found] == sorted(places)
    for row, (base, quote, minute) in zip(found, sorted(places), strict=True):
        prices = [
            (Fraction(closes[venue, f"{base}/{quote}", minute], 10**18), rank, venue)
            for rank, venue in enumerate(SPREAD_VENUES)
            if (venue, f"{base}/{quote}", minute) in closes
        ]
        assert {v: row[f"price_{v}"] for v in SPREAD_VENUES if row[f"price_{v}"]} == {v: p for p, _, v in prices}
        assert row["venues"] == len(prices)
        if len(prices) == 1:
            assert row["spread"] is row["spread_bps"] is row["lowest_venue"] is row["highest_venue"] is None
            continue
        (low, _, low_venue), (minus_high, _, high_venue) = min(prices), min((-p, rank, v) for p, rank, v in prices)
        assert (row["lowest_venue"], row["highest_venue"]) == (low_venue, high_venue)
        spread = -minus_high - low
        assert row["spread"] == spread
        points = math.floor(spread / low * 10**22 + Fraction(1, 2))
        assert row["spread_bps"] == Decimal(f"{points}E-18")
