"""Natural logarithms of quotients, right in their 18th decimal, and proved to be. Pure.

Numbers are whole, and results count units of 10⁻¹⁸, as in `exact`.
"""

from __future__ import annotations

import decimal
import itertools
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from lakehouse.transforms.exact import ONE, SCALE

#: Digits that a logarithm is tried with first, and that are added until its 18th decimal is certain. 40 leave 1 in
#: 10¹⁹ uncertain.
_LN_DIGITS = 40

_LONG = np.longdouble
#: A long double has 64 bits on x86 and 113 on Arm's Linux; elsewhere it may be a double, which has too few.
_LONG_ENOUGH = np.finfo(_LONG).eps <= 2.0**-63
#: Bound of the relative error of `log1p(difference ÷ denominator)` in long doubles, below _MOST_CHANGE. Two roundings
#: to 64 bits and one of the quotient, each 2⁻⁶⁴, grow at most to 1.2 times in the logarithm, whose own error is a few
#: units in the last place (glibc's manual, "Known Maximum Errors in Math Functions"); so 2⁻⁶⁰ would do.
_ERROR = 2.0**-58
#: Where |difference ÷ denominator| is below, the logarithm's condition is below 1.2.
_MOST_CHANGE = 0.25


def half_up_lns(numerators: Sequence[int], denominators: Sequence[int]) -> list[int]:
    """`half_up_ln` of each pair of positive whole numbers below 10³⁸.

    Prices that follow each other are near each other, and most of their logarithms are certain in long doubles, at a
    twentieth of the cost. Each of the others is computed by itself.
    """
    if not _LONG_ENOUGH or not numerators:
        return [half_up_ln(top, bottom) for top, bottom in zip(numerators, denominators, strict=True)]
    differences = [top - bottom for top, bottom in zip(numerators, denominators, strict=True)]
    change = _long_doubles(differences) / _long_doubles(denominators)
    near = np.abs(change) < _MOST_CHANGE
    units = np.log1p(np.where(near, change, 0)) * _LONG(ONE)  # 10¹⁸ has 42 bits besides its zeros: it is exact
    below = np.floor(units)
    certain = near & (np.abs(units - below - _LONG(0.5)) > np.abs(units) * _ERROR)
    found: list[int] = np.floor(units + _LONG(0.5)).astype(np.int64).tolist()
    for place in np.flatnonzero(~certain).tolist():
        found[place] = half_up_ln(numerators[place], denominators[place])
    return found


def _long_doubles(values: Sequence[int]) -> npt.NDArray[np.longdouble]:
    """Whole numbers below 2¹²⁷, each rounded once."""
    high = np.array([value >> 64 for value in values], np.int64).astype(_LONG)
    low = np.array([value & (1 << 64) - 1 for value in values], np.uint64).astype(_LONG)
    doubled: npt.NDArray[np.longdouble] = high * _LONG(2) ** 64 + low
    return doubled


def half_up_ln(numerator: int, denominator: int) -> int:
    """Natural logarithm of the quotient of two positive whole numbers below 10³⁸, in units of 10⁻¹⁸, half-up.

    It ends: but for ln 1 = 0, the logarithm of a fraction is irrational and so never on the border between two units.
    """
    if numerator == denominator:
        return 0
    for digits in itertools.count(_LN_DIGITS, _LN_DIGITS):
        context = decimal.Context(prec=digits)
        value = context.ln(context.divide(Decimal(numerator), Decimal(denominator)))
        # Both steps are right to half a unit in the last of `digits`; the quotient's error becomes one of 5·10^−digits,
        # the logarithm, below 100 (ln 10³⁸ is 87.5), adds its own, 500·10^−digits at most.
        error = Decimal(1).scaleb(3 - digits)
        wide = decimal.Context(prec=4 * digits, rounding=decimal.ROUND_HALF_UP)
        low, high = (
            wide.scaleb(wide.quantize(bound, Decimal(1).scaleb(-SCALE)), SCALE)
            for bound in (wide.subtract(value, error), wide.add(value, error))
        )
        if low == high:
            return int(low)
    raise AssertionError("unreachable")
