"""Exact numbers: logarithms of fractions by a series of 78 digits, and rounding half up to 18 decimals."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from fractions import Fraction

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
