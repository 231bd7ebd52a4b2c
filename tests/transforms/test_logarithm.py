"""Logarithms of quotients, half up to 18 decimals, against a series of 78 digits."""

from __future__ import annotations

import random
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.transforms import logarithm
from lakehouse.transforms.int128 import Int128
from lakehouse.transforms.logarithm import half_up_ln
from tests.support.exact_numbers import LN_2, half_up, ln_by_series


def half_up_lns(numerators: Collection[int], denominators: Collection[int]) -> list[int]:
    return logarithm.half_up_lns(Int128.of_ints(list(numerators)), Int128.of_ints(list(denominators))).ints()


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
    """Pairs of any numbers, and of prices near each other: a second number below 1 is a change, above it a price."""
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
