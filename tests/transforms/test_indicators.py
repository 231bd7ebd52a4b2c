"""One-minute bars → indicators: by hand, against Fractions over all bars, and after a change of a few bars."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake.table_io import arrow_schema
from lakehouse.tables import GOLD_BARS_1M, GOLD_INDICATORS_1M
from lakehouse.transforms import indicators as under_test
from lakehouse.transforms import logarithm
from lakehouse.transforms.int128 import Int128
from lakehouse.transforms.logarithm import half_up_ln
from lakehouse.transforms.row_keys import RowKey as BarPlace
from lakehouse.transforms.row_keys import RowKeys

MINUTE = 60_000_000
#: 2026-01-01 00:00 UTC.
NEW_YEAR = 1_767_225_600_000_000
READ = ("venue", "symbol", "bar_start", "close", "volume", "quote_volume")
SCHEMA = pa.schema([arrow_schema(GOLD_BARS_1M).field(name) for name in READ])

Bar = dict[str, Any]
Bars = dict[BarPlace, Bar]


def place(minute: int, venue: str = "binance", symbol: str = "BTC/USDT") -> BarPlace:
    return venue, symbol, NEW_YEAR + minute * MINUTE


def bar(
    minute: int,
    close: str = "1",
    volume: str = "1",
    quote_volume: str = "1",
    venue: str = "binance",
    symbol: str = "BTC/USDT",
) -> Bar:
    figures = {"close": Decimal(close), "volume": Decimal(volume), "quote_volume": Decimal(quote_volume)}
    return dict(zip(READ[:3], place(minute, venue, symbol), strict=True)) | figures


def table(bars: Collection[Bar]) -> pa.Table:
    return pa.Table.from_pylist(list(bars), schema=SCHEMA)


def indicators(bars: pa.Table, wanted: Collection[BarPlace] | None = None) -> pa.Table:
    """With places as tuples, as all of these tests write them."""
    return under_test.indicators(bars, None if wanted is None else RowKeys.of_tuples(wanted))


def affected(bars: pa.Table, touched: Collection[BarPlace]) -> set[BarPlace]:
    found = under_test.affected(bars, RowKeys.of_tuples(touched)).tuples()
    assert len(set(found)) == len(found)
    return set(found)


def half_up_lns(numerators: Collection[int], denominators: Collection[int]) -> list[int]:
    return logarithm.half_up_lns(Int128.of_ints(list(numerators)), Int128.of_ints(list(denominators))).ints()


def rows(bars: Collection[Bar], wanted: Collection[BarPlace] | None = None) -> list[dict[str, Any]]:
    """The indicators, with bar_start in µs since the epoch."""
    found = indicators(table(bars), wanted)
    return found.set_column(2, "bar_start", found.column("bar_start").cast(pa.int64())).to_pylist()


def column(name: str, bars: Collection[Bar]) -> list[Any]:
    return [row[name] for row in rows(bars)]


# ---------------------------------------------------------------------------------------------------- by hand


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


# ---------------------------------------------------------------------------------------------------- logarithms


DIGITS = 60 + 18
UNIT: int = 10**DIGITS


def twice_atanh(numerator: int, denominator: int) -> int:
    """2·atanh by its series, in units of 10⁻⁷⁸; |numerator ÷ denominator| is a third at most."""
    power = total = numerator * UNIT // denominator
    for odd in itertools.count(3, 2):
        power = power * numerator * numerator // (denominator * denominator)
        if power in (0, -1):
            return 2 * total
        total += power // odd
    raise AssertionError


LN_2 = twice_atanh(1, 3)


def ln_by_series(quotient: Fraction) -> Fraction:
    """Natural logarithm, right to 60 digits and more: halved or doubled until near 1, then by the series."""
    halvings = 0
    while quotient > Fraction(4, 3):
        quotient, halvings = quotient / 2, halvings + 1
    while quotient < Fraction(2, 3):
        quotient, halvings = quotient * 2, halvings - 1
    near = (quotient - 1) / (quotient + 1)
    return Fraction(twice_atanh(near.numerator, near.denominator) + halvings * LN_2, UNIT)


def half_up(exact: Fraction) -> Decimal:
    """To 18 decimals, ties away from zero; written as text, so that no context rounds."""
    magnitude = math.floor(abs(exact) * 10**18 + Fraction(1, 2))
    return Decimal(f"{'-' if exact < 0 else ''}{magnitude}E-18")


def test_the_series_is_right() -> None:
    assert str(LN_2).startswith("693147180559945309417232121458176568075500134360255254120680")


@pytest.mark.parametrize(("beyond", "units"), [(20, 0), (21, 1)])
def test_a_logarithm_next_to_a_tie_gets_more_digits(beyond: int, units: int) -> None:
    """e^x = 1 + x + x²/2 + x³/6: for x of half a unit, 5·10⁻¹⁹ + 1.25·10⁻³⁷ + 2.083·10⁻⁵⁶ above 1."""
    denominator = 10**57
    above = 5 * 10**38 + 125 * 10**18 + beyond
    assert half_up_ln(denominator + above, denominator) == units


@settings(deadline=None)
@given(st.integers(1, 10**38 - 1), st.integers(1, 10**38 - 1))
def test_logarithms_of_anything(close: int, before: int) -> None:
    assert Decimal(f"{half_up_ln(close, before)}E-18") == half_up(ln_by_series(Fraction(close, before)))
    assert half_up_ln(before, close) == -half_up_ln(close, before)


@settings(deadline=None)
@given(st.integers(1, 10**30), st.integers(-1000, 1000))
def test_logarithms_of_nearly_one(before: int, change: int) -> None:
    close = max(1, before + change)
    assert Decimal(f"{half_up_ln(close, before)}E-18") == half_up(ln_by_series(Fraction(close, before)))


PRICES = st.integers(1, 10**38 - 1)
CHANGES = st.one_of(st.integers(-1000, 1000), st.integers(-(10**18), 10**18), st.just(0))


@settings(deadline=None)
@given(st.lists(st.one_of(st.tuples(PRICES, PRICES), st.tuples(PRICES, CHANGES)), max_size=20))
def test_many_logarithms_are_each_as_by_itself(pairs: list[tuple[int, int]]) -> None:
    """Of anything, and of prices near each other. Below 1 the second number is a change, above it a price or one."""
    befores = [before for before, _ in pairs]
    closes = [other if other > 10**18 else min(max(1, before + other), 10**38 - 1) for before, other in pairs]
    assert half_up_lns(closes, befores) == [half_up_ln(*pair) for pair in zip(closes, befores, strict=True)]


def test_logarithms_of_usual_returns_need_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in some hundred is too near to a border to be certain in a long double."""
    if not logarithm._LONG_ENOUGH:
        pytest.skip("no long doubles here")
    luck, alone = random.Random(1), list[int]()
    befores = [luck.randrange(10**16, 10**23) for _ in range(20_000)]
    closes = [before + int(before * luck.gauss(0, 0.001)) for before in befores]
    expected = [half_up_ln(*pair) for pair in zip(closes, befores, strict=True)]

    def counted(numerator: int, denominator: int) -> int:
        alone.append(numerator)
        return half_up_ln(numerator, denominator)

    monkeypatch.setattr(logarithm, "half_up_ln", counted)
    assert half_up_lns(closes, befores) == expected
    assert len(alone) < 400


def test_a_logarithm_next_to_a_tie_is_left_to_digits() -> None:
    """Half a unit above 1, and a little more or less, which no long double tells."""
    one = 10**37
    for beyond in range(-3, 4):
        close = one + 5 * 10**18 + beyond
        assert half_up_lns([close], [one]) == [half_up_ln(close, one)]


def test_without_long_doubles_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logarithm, "_LONG_ENOUGH", False)
    assert half_up_lns([2, 3], [3, 3]) == [half_up_ln(2, 3), 0]


# ---------------------------------------------------------------------------------------------------- properties


def made_up_bar(luck: random.Random, where: BarPlace) -> Bar:
    """A bar with figures of all sizes."""
    close, volume, quote_volume = (Decimal(f"{luck.randint(1, 10 ** luck.choice((2, 9, 18)))}E-18") for _ in range(3))
    quote_volume = min(quote_volume, volume)  # a VWAP that fits
    return dict(zip(READ, (*where, close, volume, quote_volume), strict=True))


@st.composite
def many_bars(draw: st.DrawFn) -> Bars:
    """Two series, of runs of bars in every minute, every few, or around the lookback's length apart."""
    gaps = st.sampled_from([1, 1, 1, 2, 3, 4, 5, 12, 48, 60, 80, 119, 120, 239, 240, 241])
    runs = st.tuples(gaps, st.one_of(st.integers(1, 20), st.integers(60, 130)))
    luck = random.Random(draw(st.integers(0, 2**32)))
    bars = {}
    for venue, lengths in (("binance", st.lists(runs, max_size=3)), ("kraken", st.lists(runs, max_size=1))):
        minute = 0
        for gap, count in draw(lengths):
            for _ in range(count):
                minute += gap
                bars[place(minute, venue)] = made_up_bar(luck, place(minute, venue))
    return bars


def brute_force(bars: Bars, wanted: BarPlace) -> dict[str, Any]:
    """The row of one bar: every bar of all series is asked whether it counts, newest first."""
    venue, symbol, start = wanted
    counts = sorted(
        (one for one in bars.values() if (one["venue"], one["symbol"]) == (venue, symbol)
         and start - 240 * MINUTE < one["bar_start"] <= start),
        key=lambda one: -one["bar_start"],
    )  # fmt: skip
    row: dict[str, Any] = {"venue": venue, "symbol": symbol, "bar_start": start, "close": counts[0]["close"]}
    for span in (5, 20, 60):
        window = counts[:span]
        enough = len(window) == span
        closes, volume, quote_volume = (
            sum((Fraction(one[name]) for one in window), Fraction(0)) for name in ("close", "volume", "quote_volume")
        )
        row[f"sma_{span}"] = half_up(closes / span) if enough else None
        row[f"vwap_{span}"] = half_up(quote_volume / volume) if enough else None
    row |= dict.fromkeys(("minutes_since_previous", "simple_return", "log_return"))
    if len(counts) > 1:
        quotient = Fraction(counts[0]["close"]) / Fraction(counts[1]["close"])
        row["minutes_since_previous"] = (start - counts[1]["bar_start"]) // MINUTE
        row["simple_return"] = half_up(quotient - 1)
        row["log_return"] = half_up(ln_by_series(quotient))
    return row


@settings(deadline=None, max_examples=25)
@given(many_bars(), st.randoms(use_true_random=False))
def test_indicators_are_as_the_brute_force_says_in_any_order(bars: Bars, luck: random.Random) -> None:
    wanted = luck.sample(sorted(bars), min(len(bars), 25))
    assert rows(luck.sample(list(bars.values()), len(bars)), wanted) == [
        brute_force(bars, one) for one in sorted(wanted)
    ]
    everything = indicators(table(bars.values()))
    assert everything.num_rows == len(bars)
    assert indicators(table(luck.sample(list(bars.values()), len(bars)))).equals(everything)


@settings(deadline=None, max_examples=50)
@given(many_bars(), st.sampled_from(["one", "few"]), st.randoms(use_true_random=False))
def test_recomputing_the_affected_bars_is_recomputing_all(bars: Bars, kind: str, luck: random.Random) -> None:
    after, touched = change(bars, luck, 1 if kind == "one" else 8)
    found = affected(table(luck.sample(list(after.values()), len(after))), touched)
    kept = {(row["venue"], row["symbol"], row["bar_start"]): row for row in rows(bars.values())}
    for gone in kept.keys() - after.keys():
        del kept[gone]
    recomputed = rows(after.values(), found)
    assert {(row["venue"], row["symbol"], row["bar_start"]) for row in recomputed} == found
    kept |= {(row["venue"], row["symbol"], row["bar_start"]): row for row in recomputed}
    assert [kept[key] for key in sorted(kept)] == rows(after.values())
    assert found == brute_affected(after, touched)


def change(bars: Bars, luck: random.Random, times: int) -> tuple[Bars, set[BarPlace]]:
    """Bars inserted, changed and deleted, mostly close together, and their places."""
    after, touched = dict(bars), set()
    around = luck.choice(sorted(bars)) if bars else place(3)
    for _ in range(times):
        near = [one for one in bars if one[0] == around[0] and abs(one[2] - around[2]) < 90 * MINUTE]
        minute = luck.choice([-241, -240, -239, -60, *range(-9, 10), 60, 239, 240])
        elsewhere = (luck.choice((around[0], "kraken")), "BTC/USDT", around[2] + minute * MINUTE)
        where = luck.choice(near) if near and luck.random() < 0.7 else elsewhere
        touched.add(where)
        if where in after and luck.random() < 0.5:
            del after[where]
        else:
            after[where] = made_up_bar(luck, where)
    return after, touched


def brute_affected(after: Bars, touched: set[BarPlace]) -> set[BarPlace]:
    """Every bar is asked, for each touched place, how many bars from there up to it there are."""
    found = set()
    for venue, symbol, start in touched:
        for one in after:
            between = sum(1 for two in after if two[:2] == one[:2] and start < two[2] <= one[2])
            if one[:2] == (venue, symbol) and 0 <= one[2] - start < 240 * MINUTE and between <= 59:
                found.add(one)
    return found


# ---------------------------------------------------------------------------------------------------- affected, by hand


def test_a_changed_bar_affects_itself_and_the_59_behind_it() -> None:
    before = {place(minute): bar(minute) for minute in range(200)} | {
        place(minute, "kraken"): bar(minute, venue="kraken") for minute in range(200)
    }
    after = before | {place(100): bar(100, "7")}
    found = affected(table(after.values()), [place(100)])
    assert found == {place(minute) for minute in range(100, 160)}
    # And each of them does differ: none is recomputed in vain.
    differing = [
        (new["venue"], new["symbol"], new["bar_start"])
        for old, new in zip(rows(before.values()), rows(after.values()), strict=True)
        if old != new
    ]
    assert set(differing) == found


def test_a_deleted_bar_affects_the_59_behind_it() -> None:
    after = [bar(minute) for minute in range(200) if minute != 100]
    assert affected(table(after), [place(100)]) == {place(minute) for minute in range(101, 160)}


def test_no_bar_is_affected_from_the_lookback_on() -> None:
    bars = [bar(minute) for minute in (0, 1, 239, 240, 241)]
    assert affected(table(bars), [place(0)]) == {place(0), place(1), place(239)}
    assert affected(table(bars[1:]), [place(0)]) == {place(1), place(239)}
    assert affected(table(bars), [place(-1)]) == {place(0), place(1)}


def test_touched_places_of_series_without_bars_affect_nothing() -> None:
    assert affected(table([bar(0)]), [place(0, "kraken"), place(0, symbol="ETH/USDT"), place(1)]) == set()
