"""Indicators against Fractions over all bars, in any order, and after a change of a few bars."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.transforms.row_keys import RowKey as BarPlace
from tests.support.exact_numbers import half_up, ln_by_series
from tests.support.indicator_bars import (
    MINUTE,
    READ,
    Bar,
    Bars,
    affected,
    bar,
    indicators,
    place,
    rows,
    table,
)

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
