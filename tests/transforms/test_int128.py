"""Columns of 128-bit integers, each row against Python's integers, with figures of every size."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.errors import TerminalError
from lakehouse.transforms import int128, quotients
from lakehouse.transforms.decimal18 import LIMIT, half_up_quotient, values_of
from lakehouse.transforms.int128 import FIGURE, Int128, Sums
from lakehouse.transforms.quotients import half_up_means, half_up_products, half_up_quotients, quotient_column

EDGES = [0, 1, 2, 10**18, 5 * 10**17, 2**31, 2**32, 2**63, 2**64, 2**126, 2**126 - 1, LIMIT - 1, 10**37]
NEAR_EDGES = st.builds(lambda edge, by: max(0, min(edge + by, LIMIT - 1)), st.sampled_from(EDGES), st.integers(-3, 3))
#: Magnitudes of all lengths, and those next to where a digit or a bound is.
SIZES = st.integers(0, 127).flatmap(lambda bits: st.integers(0, min(2**bits, LIMIT - 1))) | NEAR_EDGES
SIGNED = st.builds(lambda size, sign: size * sign, SIZES, st.sampled_from([1, -1]))
DIVISORS = SIGNED.filter(bool)


@st.composite
def ties(draw: st.DrawFn) -> tuple[int, int]:
    """Two numbers whose quotient is half a unit, or next to it."""
    doubled = 2 * draw(st.integers(0, 10 ** draw(st.integers(0, 30)))) + 1
    bottom = 2 * 10**18 * draw(st.integers(1, 10**9))
    top = doubled * (bottom // (2 * 10**18)) + draw(st.sampled_from([0, 0, 1, -1]))
    return (top if top < LIMIT else 1) * draw(st.sampled_from([1, -1])), bottom


PAIRS = st.lists(st.tuples(SIGNED, DIVISORS) | ties(), max_size=60)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of any length are computed as columns, most in several blocks."""
    monkeypatch.setattr(quotients, "FEW", 0)
    monkeypatch.setattr(quotients, "BLOCK", 16)


def columns(pairs: list[tuple[int, int]]) -> tuple[Int128, Int128]:
    return Int128.of_ints([one for one, _ in pairs]), Int128.of_ints([other for _, other in pairs])


def wrapped(value: int) -> int:
    """In 128 bits."""
    return (value + 2**127) % 2**128 - 2**127


@given(PAIRS)
@settings(deadline=None, max_examples=400)
@example([(2**126 - 1, 1), (2**126, 1), (LIMIT - 1, LIMIT - 1), (LIMIT - 1, 1), (0, 1)])
@example([(2**31 * 10**18 - 1, 10**18), (2**31 * 10**18, 10**18), (1, 2 * 10**18), (-1, 2 * 10**18)])
def test_quotients_are_those_of_pythons_integers(pairs: list[tuple[int, int]]) -> None:
    found = half_up_quotients(*columns(pairs))
    expected = [half_up_quotient(*pair) for pair in pairs]
    assert found.fit.tolist() == [abs(value) < LIMIT for value in expected]
    assert found.counts.ints() == [value if abs(value) < LIMIT else 0 for value in expected]


@given(
    st.lists(st.integers(0, 2**126 - 1) | SIZES.filter(lambda size: size < 2**126), max_size=60), st.integers(2, 2**31)
)
@settings(deadline=None)
@example([0, 1, 2, 3, 2**32 - 1, 2**32, 2**64 - 1, 2**96, 2**126 - 1], 2)
@example([2, 3, 7, 8, 12, 13], 5)
def test_means_are_those_of_pythons_integers(sums: list[int], count: int) -> None:
    found = half_up_means(Int128.of_ints(sums), count)
    assert found.counts.ints() == [half_up_quotient(one, count * 10**18) for one in sums]
    assert found.fit.all()


@given(st.lists(SIZES, min_size=1, max_size=60))
def test_doubles_are_nearly_it(sizes: list[int]) -> None:
    for found, true in zip(Int128.of_ints(sizes).doubles().tolist(), sizes, strict=True):
        assert abs(Fraction(found) - true) <= Fraction(true, 2**51)


def test_usual_quotients_are_not_computed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not int128.LONG_ENOUGH:
        pytest.skip("no long doubles here")
    monkeypatch.setattr(quotients, "_one_by_one", None)
    pairs = [(price * 10**8 * size, size * 10**10) for price in (1, 10**6 + 1, 10**11) for size in (1, 7, 10**13 + 1)]
    assert half_up_quotients(*columns(pairs)).counts.ints() == [half_up_quotient(*pair) for pair in pairs]


@pytest.mark.parametrize(("name", "value"), [("FEW", 10**9), ("LONG_ENOUGH", False)])
def test_one_by_one_the_quotients_are_the_same(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    pairs = [(10**37, 3), (5, 7), (-1, 2 * 10**18), (LIMIT - 1, 1)]
    whole = half_up_quotients(*columns(pairs))
    monkeypatch.setattr(quotients, name, value)
    single = half_up_quotients(*columns(pairs))
    assert (single.counts.ints(), single.fit.tolist()) == (whole.counts.ints(), whole.fit.tolist())


def test_a_divisor_of_zero_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        half_up_quotients(*columns([(1, 1), (1, 0)]))


@given(
    st.lists(st.tuples(st.integers(0, 10**30 - 1), st.integers(0, 10**33 - 1)) | st.tuples(SIZES, SIZES), max_size=30)
)
@settings(deadline=None, max_examples=300)
@example([(2305843009213693952, 78124999999999999292885603), (5 * 10**17, 1), (5 * 10**17 - 1, 1), (1, 1)])
def test_products_are_those_of_pythons_integers(pairs: list[tuple[int, int]]) -> None:
    products = [one * other for one, other in pairs if one * other < 10**76]
    column = pa.array([Decimal((0, tuple(map(int, str(one))), -36)) for one in products], pa.decimal256(76, 36))
    found = half_up_products(column)
    expected = [(one + 5 * 10**17) // 10**18 for one in products]
    assert found.fit.tolist() == [value < LIMIT for value in expected]
    fitting = [value for value in expected if value < LIMIT]
    assert found.counts.at(found.fit).ints() == fitting
    assert half_up_products(column.slice(1, 3)).counts.ints() == found.counts.ints()[1:4]


@given(st.lists(st.tuples(SIGNED, SIGNED), max_size=20))
@settings(deadline=None)
def test_sums_differences_and_order(pairs: list[tuple[int, int]]) -> None:
    one, other = columns(pairs)
    assert one.ints() == [value for value, _ in pairs]
    assert one.plus(other).ints() == [wrapped(a + b) for a, b in pairs]
    assert one.minus(other).ints() == [wrapped(a - b) for a, b in pairs]
    assert one.negative.tolist() == [a < 0 for a, _ in pairs]
    assert one.magnitude().ints() == [abs(a) for a, _ in pairs]
    assert one.magnitude().below(other.magnitude()).tolist() == [abs(a) < abs(b) for a, b in pairs]
    assert one.times(np.uint64(10**18)).ints() == [wrapped(a * 10**18) for a, _ in pairs]


@given(st.lists(st.tuples(SIGNED, st.integers(0, 2**64 - 1)), max_size=20))
@settings(deadline=None)
@example([(2**126, 2**64 - 1), (-1, 2**64 - 1), (2**64 - 1, 2**64 - 1)])
def test_products_with_64_bits(pairs: list[tuple[int, int]]) -> None:
    factors = np.array([factor for _, factor in pairs], np.uint64)
    assert columns([(value, 0) for value, _ in pairs])[0].times(factors).ints() == [wrapped(a * b) for a, b in pairs]


@given(st.lists(SIZES, min_size=1, max_size=70), st.data())
@settings(deadline=None)
@example([LIMIT - 1] * 60, None)
def test_sums_of_windows(values: list[int], data: st.DataObject | None) -> None:
    draw: Callable[[int, int], int] = (lambda low, high: data.draw(st.integers(low, high))) if data else (lambda *_: 0)
    runs = [(start := draw(0, len(values)), draw(start, len(values))) for _ in range(5)] + [(0, len(values))]
    sums = Sums(Int128.of_ints(values))
    firsts, ends = (np.array(bounds, np.int64) for bounds in zip(*runs, strict=True))
    found, beyond = sums.between(firsts, ends)
    for run, value, not_told in zip(runs, found.ints(), beyond.tolist(), strict=True):
        exact = sum(values[slice(*run)])
        assert sums.exactly(*run) == exact
        assert not_told or value == exact
        assert not_told == (exact >= 2**126) or 2**126 <= exact < 2**126 + 2**97


@given(st.lists(st.none() | SIGNED, max_size=20), st.integers(0, 3))
@settings(deadline=None)
def test_columns_and_back(values: list[int | None], offset: int) -> None:
    there = np.array([value is not None for value in values], np.bool_)
    column = Int128.of_ints([value or 0 for value in values]).decimals(there)
    column.validate(full=True)
    assert column.type == FIGURE
    assert column.is_valid().to_pylist() == there.tolist()
    kept = column.slice(offset).drop_null()
    assert values_of(pa.table({"x": kept}), "x") == [value for value in values[offset:] if value is not None]
    assert Int128.of(column.slice(offset)).at(there[offset:]).ints() == values_of(pa.table({"x": kept}), "x")
    assert Int128.of(pa.chunked_array([column, column])).size == 2 * len(values)


def test_a_quotient_that_does_not_fit() -> None:
    pairs = columns([(1, 1), (LIMIT - 1, 1)])
    assert quotient_column(pa.field("x", FIGURE), *pairs).to_pylist() == [1, None]
    with pytest.raises(TerminalError, match=r"x would be 1\.000e\+38"):
        quotient_column(pa.field("x", FIGURE, nullable=False), *pairs)
