"""The one rounding of every quotient in Gold, against Fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.transforms.decimal18 import half_up_quotient
from tests.support.exact_numbers import half_up


@pytest.mark.parametrize(
    ("numerator", "denominator", "units"),
    [
        (1, 3, 333333333333333333),
        (2, 3, 666666666666666667),
        (-2, 3, -666666666666666667),
        (2, -3, -666666666666666667),
        (-2, -3, 666666666666666667),
        (0, 7, 0),
        (0, -7, 0),
        (1, 2 * 10**18, 1),  # half a unit: a tie
        (-1, 2 * 10**18, -1),
        (3, 2 * 10**18, 2),  # one and a half: to the even one and away from zero at once
        (5, 2 * 10**18, 3),  # two and a half: half-even would say 2
        (-5, 2 * 10**18, -3),
        (10**30 - 1, 2 * 10**48, 0),  # just below the tie, 30 digits after the point
        (10**30, 2 * 10**48, 1),
    ],
)
def test_quotients_are_half_up(numerator: int, denominator: int, units: int) -> None:
    assert half_up_quotient(numerator, denominator) == units


@given(st.integers(-(10**60), 10**60), st.integers(-(10**40), 10**40).filter(bool))
def test_quotients_are_as_fractions_say(numerator: int, denominator: int) -> None:
    assert Decimal(f"{half_up_quotient(numerator, denominator)}E-18") == half_up(Fraction(numerator, denominator))
