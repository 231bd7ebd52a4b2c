"""Bars → longer bars: by hand, and against Fractions over all bars, one by one."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.errors import TerminalError
from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import BAR_MINUTES, BARS
from lakehouse.transforms.bars import roll_up
from tests.support.exact_numbers import half_up

MINUTE = 60_000_000
#: 2026-01-01 00:00 UTC.
NEW_YEAR = 1_767_225_600_000_000
COLUMNS = (
    "venue", "symbol", "bar_start", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades",
    "buy_volume", "sell_volume", "pressure", "first_trade_id", "last_trade_id",
)  # fmt: skip
SCHEMA = pa.schema([arrow_schema(BARS[1]).field(name) for name in COLUMNS])


def bar(minute: int, **values: Any) -> dict[str, Any]:
    """A one-minute bar of one trade of 1 BTC at 100, so many minutes after New Year."""
    given_bar: dict[str, Any] = {
        "venue": "binance", "symbol": "BTC/USDT", "bar_start": NEW_YEAR + minute * MINUTE,
        "open": "100", "high": "100", "low": "100", "close": "100", "volume": "1", "quote_volume": "100",
        "vwap": "100", "trades": 1, "buy_volume": "1", "sell_volume": "0", "pressure": "1",
        "first_trade_id": minute, "last_trade_id": minute,
    } | values  # fmt: skip
    return {name: Decimal(value) if is_figure(name) else value for name, value in given_bar.items()}


def is_figure(name: str) -> bool:
    return name not in ("venue", "symbol", "bar_start", "trades", "first_trade_id", "last_trade_id")


def table(bars: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(bars, schema=SCHEMA)


def rows(bars: pa.Table) -> list[dict[str, Any]]:
    """Rows with bar_start in µs since the epoch."""
    place = bars.schema.get_field_index("bar_start")
    return bars.set_column(place, "bar_start", bars.column("bar_start").cast(pa.int64())).to_pylist()


# ---------------------------------------------------------------------------------------------------- by hand


def test_two_bars_of_one_window() -> None:
    first = bar(
        1, open="99.5", high="100.5", low="99", close="100", volume="1", quote_volume="100", trades=3,
        buy_volume="0.5", sell_volume="0.5", first_trade_id=10, last_trade_id=12,
    )  # fmt: skip
    second = bar(
        4, open="100.25", high="101", low="99.75", close="100.75", volume="2", quote_volume="201", trades=2,
        buy_volume="0", sell_volume="2", first_trade_id=13, last_trade_id=14,
    )  # fmt: skip
    assert rows(roll_up(table([second, first]), 5)) == [
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "bar_start": NEW_YEAR,
            "open": Decimal("99.5"),
            "high": Decimal("101"),
            "low": Decimal("99"),
            "close": Decimal("100.75"),
            "volume": Decimal("3"),
            "quote_volume": Decimal("301"),
            "vwap": Decimal("100.333333333333333333"),  # 301 ÷ 3
            "trades": 5,
            "buy_volume": Decimal("0.5"),
            "sell_volume": Decimal("2.5"),
            "pressure": Decimal("-0.666666666666666667"),  # −2 ÷ 3
            "first_trade_id": 10,
            "last_trade_id": 14,
        }
    ]


def test_vwap_is_of_the_sums_and_not_of_the_bars_vwaps() -> None:
    cheap = bar(0, volume="3", quote_volume="3", vwap="1", buy_volume="3")
    dear = bar(1, volume="1", quote_volume="2", vwap="2")
    assert rows(roll_up(table([cheap, dear]), 5))[0]["vwap"] == Decimal("1.25")


@pytest.mark.parametrize(
    ("buy", "sell", "pressure"),
    [
        ("1.000000000000000001", "0.999999999999999999", "0.000000000000000001"),  # 2 units ÷ 4: half a unit
        ("0.999999999999999999", "1.000000000000000001", "-0.000000000000000001"),
    ],
)
def test_pressure_of_half_a_unit_goes_away_from_zero(buy: str, sell: str, pressure: str) -> None:
    bars = [
        bar(0, volume="2", buy_volume=buy, sell_volume=sell),
        bar(1, volume="2", buy_volume="1", sell_volume="1"),
    ]
    assert rows(roll_up(table(bars), 5))[0]["pressure"] == Decimal(pressure)


def test_the_lowest_id_opens_and_the_highest_closes_where_times_and_ids_disagree() -> None:
    bars = [
        bar(0, first_trade_id=7, last_trade_id=9, open="70", close="90"),
        bar(1, first_trade_id=3, last_trade_id=8, open="30", close="80"),
    ]
    folded = rows(roll_up(table(bars), 5))[0]
    assert (folded["first_trade_id"], folded["last_trade_id"]) == (3, 9)
    assert (folded["open"], folded["close"]) == (30, 90)


@pytest.mark.parametrize(
    ("minutes", "starts"),
    [
        (5, [-5, 0, 5, 1435, 1440]),
        (15, [-15, 0, 1425, 1440]),
        (60, [-60, 0, 1380, 1440]),
        (1440, [-1440, 0, 1440]),
    ],
)
def test_windows_are_aligned_to_the_epoch_and_none_is_filled_in(minutes: int, starts: list[int]) -> None:
    folded = rows(roll_up(table([bar(minute) for minute in (-1, 0, 4, 5, 1439, 1440)]), minutes))
    assert [(row["bar_start"] - NEW_YEAR) // MINUTE for row in folded] == starts
    assert sum(row["trades"] for row in folded) == 6


def test_series_stay_apart_and_come_sorted() -> None:
    bars = [bar(0), bar(0, venue="kraken", open="1"), bar(1, symbol="ETH/USDT", open="2"), bar(2)]
    folded = rows(roll_up(table(bars), 5))
    assert [(row["venue"], row["symbol"], row["open"], row["trades"]) for row in folded] == [
        ("binance", "BTC/USDT", 100, 2),
        ("binance", "ETH/USDT", 2, 1),
        ("kraken", "BTC/USDT", 1, 1),
    ]


def test_one_bar_is_its_own_longer_bar() -> None:
    assert rows(roll_up(table([bar(60)]), 60)) == [bar(60)]


@pytest.mark.parametrize("minutes", BARS)
def test_types_and_nullability_are_the_registrys(minutes: int) -> None:
    schema = pa.schema([arrow_schema(BARS[minutes]).field(name) for name in COLUMNS])
    assert roll_up(table([]), minutes).schema == schema
    assert roll_up(table([]), minutes).num_rows == 0
    assert roll_up(table([bar(0)]), minutes).schema == schema


def test_chunks_extra_columns_and_other_string_types_change_nothing() -> None:
    bars = [bar(minute, close=str(100 + minute)) for minute in range(7)]
    chunked = pa.concat_tables([table([one]) for one in reversed(bars)])
    chunked = chunked.append_column("complete", pa.array([True] * 7))
    chunked = chunked.set_column(0, "venue", chunked.column("venue").dictionary_encode())
    chunked = chunked.set_column(1, "symbol", chunked.column("symbol").cast(pa.string_view()))
    chunked = chunked.select(list(reversed(chunked.column_names)))
    assert roll_up(chunked, 5).equals(roll_up(table(bars), 5))
    assert roll_up(table(bars).slice(2, 3), 5).equals(roll_up(table(bars[2:5]), 5))


def test_a_sum_that_does_not_fit_is_an_error_and_not_cut() -> None:
    huge = "99999999999999999999.999999999999999999"
    with pytest.raises(
        TerminalError, match=r"^quote_volume of a bar would be 2\.000e\+20; expected a figure that fits decimal"
    ):
        roll_up(table([bar(0, quote_volume=huge), bar(1, quote_volume=huge)]), 5)
    assert rows(roll_up(table([bar(0, quote_volume=huge)]), 5))[0]["quote_volume"] == Decimal(huge)


# ---------------------------------------------------------------------------------------------------- properties


@st.composite
def many_bars(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Bars of two series over two days, close together and far apart, with figures of all sizes."""
    minutes = st.one_of(st.integers(-3, 12), st.integers(50, 70), st.integers(1430, 1450), st.integers(-1440, 1440))
    places = draw(st.sets(st.tuples(st.sampled_from(["binance", "kraken"]), minutes), max_size=30))
    luck = random.Random(draw(st.integers(0, 2**32)))
    return [made_up_bar(luck, venue, minute) for venue, minute in sorted(places)]


def made_up_bar(luck: random.Random, venue: str, minute: int) -> dict[str, Any]:
    def units() -> int:
        return luck.randint(1, 10 ** luck.choice((1, 2, 9, 18, 21, 28)))

    buy, sell, price = units(), luck.choice((0, units())), units()
    ids = sorted(luck.sample(range(2**62), 2))  # an id is in one bar only
    decimals = {name: units() for name in ("open", "high", "low", "close")} | {
        "volume": buy + sell,
        "quote_volume": (buy + sell) * price // 10**28,
        "buy_volume": buy,
        "sell_volume": sell,
    }
    return bar(
        minute,
        venue=venue,
        trades=luck.randint(1, 1000),
        first_trade_id=ids[0],
        last_trade_id=ids[1],
        **{name: f"{value}E-18" for name, value in decimals.items()},
    )


def brute_force(bars: list[dict[str, Any]], minutes: int) -> list[dict[str, Any]]:
    """Every possible window asks every bar whether it lies in it."""
    length = minutes * MINUTE
    folded = []
    for venue, symbol, number in sorted({(b["venue"], b["symbol"], b["bar_start"] // length) for b in bars}):
        start = number * length
        within = [
            one
            for one in bars
            if (one["venue"], one["symbol"]) == (venue, symbol) and start <= one["bar_start"] < start + length
        ]
        sums = {
            name: sum(Fraction(one[name]) for one in within)
            for name in ("volume", "quote_volume", "buy_volume", "sell_volume")
        }
        folded.append(
            {"venue": venue, "symbol": symbol, "bar_start": start}
            | {name: half_up(Fraction(value)) for name, value in sums.items()}
            | {
                "open": min(within, key=lambda one: one["first_trade_id"])["open"],
                "close": max(within, key=lambda one: one["last_trade_id"])["close"],
                "high": max(one["high"] for one in within),
                "low": min(one["low"] for one in within),
                "vwap": half_up(Fraction(sums["quote_volume"]) / sums["volume"]),
                "pressure": half_up(Fraction(sums["buy_volume"] - sums["sell_volume"]) / sums["volume"]),
                "trades": sum(one["trades"] for one in within),
                "first_trade_id": min(one["first_trade_id"] for one in within),
                "last_trade_id": max(one["last_trade_id"] for one in within),
            }
        )
    return folded


@settings(deadline=None)
@given(many_bars(), st.sampled_from(sorted(BARS)))
@example([], 5)
def test_longer_bars_are_as_the_brute_force_says(bars: list[dict[str, Any]], minutes: int) -> None:
    assert rows(roll_up(table(bars), minutes)) == brute_force(bars, minutes)


@settings(deadline=None)
@given(many_bars(), st.randoms(use_true_random=False))
def test_the_order_of_bars_does_not_matter(bars: list[dict[str, Any]], luck: random.Random) -> None:
    mixed = luck.sample(bars, len(bars))
    assert roll_up(table(mixed), 60).equals(roll_up(table(bars), 60))


@settings(deadline=None)
@given(many_bars())
def test_folding_in_steps_is_folding_at_once(bars: list[dict[str, Any]]) -> None:
    steps = direct = table(bars)
    for minutes in sorted(BAR_MINUTES.values()):
        steps = roll_up(steps, minutes)
        assert steps.equals(roll_up(direct, minutes))
    assert roll_up(roll_up(direct, 5), 60).equals(roll_up(direct, 60))
