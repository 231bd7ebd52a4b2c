"""Natural logarithms of quotients, proved right in the 18th decimal. Pure.

Numbers are whole, and results count units of 10⁻¹⁸, as in `decimal18`.
"""

from __future__ import annotations

import decimal
import itertools
from decimal import Decimal

import numpy as np

from lakehouse.transforms.decimal18 import ONE, SCALE
from lakehouse.transforms.int128 import LONG_ENOUGH, Int128

#: Digits of the first try, and of each further step until the 18th decimal is certain. 40 leave 1 in 10¹⁹ uncertain.
_LN_DIGITS = 40

_LONG = np.longdouble
_LONG_ENOUGH = LONG_ENOUGH
#: Bound of the relative error of `log1p(difference ÷ denominator)` in long doubles, below _MOST_CHANGE. Two roundings
#: to 64 bits and one of the quotient, each 2⁻⁶⁴, grow at most to 1.2 times in the logarithm, whose own error is a few
#: units in the last place (glibc's manual, "Known Maximum Errors in Math Functions"); so 2⁻⁶⁰ would do.
_ERROR = 2.0**-58
#: If |difference ÷ denominator| is below this, the logarithm's condition number is below 1.2.
_MOST_CHANGE = 0.25


def half_up_lns(numerators: Int128, denominators: Int128) -> Int128:
    """Return `half_up_ln` of each pair of positive whole numbers below 10³⁸.

    Consecutive prices are close to each other, so long doubles suffice for most of their logarithms, at a twentieth of
    the cost. Each of the others is computed by itself.
    """
    found, certain = Int128.zeros(numerators.size), np.zeros(numerators.size, np.bool_)
    if _LONG_ENOUGH:
        difference = numerators.minus(denominators)
        change = difference.magnitude().long_doubles() / denominators.long_doubles()
        change = np.where(difference.negative, -change, change)
        near = np.abs(change) < _MOST_CHANGE
        units = np.log1p(np.where(near, change, 0)) * _LONG(ONE)  # 10¹⁸ has 42 bits besides its zeros: it is exact
        below = np.floor(units)
        certain = near & (np.abs(units - below - _LONG(0.5)) > np.abs(units) * _ERROR)
        found = Int128.of_small(np.floor(units + _LONG(0.5)).astype(np.int64))
    left = np.flatnonzero(~certain)
    if len(left):
        pairs = zip(numerators.at(left).ints(), denominators.at(left).ints(), strict=True)
        found = Int128(found.high.copy(), found.low.copy())  # a view of one array's bits
        found.put(left, Int128.of_ints([half_up_ln(top, bottom) for top, bottom in pairs]))
    return found


def half_up_ln(numerator: int, denominator: int) -> int:
    """Compute the natural logarithm of a quotient of positive whole numbers below 10³⁸, in units of 10⁻¹⁸, half-up.

    The loop ends: except for ln 1 = 0, the logarithm of a fraction is irrational, so never exactly between two units.
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
