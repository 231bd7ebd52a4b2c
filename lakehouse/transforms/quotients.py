"""Quotients and products of columns of figures, rounded once, half-up, to 18 decimals. Pure.

The same arithmetic as `decimal18.half_up_quotient`, over columns of `Int128`, at a tenth of the cost.

Guarantee: `half_up_quotients` returns `decimal18.half_up_quotient` of each row. Rows that the bounds below do not
cover (huge figures, quotients from 2³¹ on), and columns too short to be worth the arrays, are computed by that
function.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.transforms.arrow_numpy import Integers, Mask
from lakehouse.transforms.decimal18 import LIMIT, ONE, half_up_quotient, table_of_columns
from lakehouse.transforms.int128 import HIGH_2_126, LONG_ENOUGH, LOW_HALF, Int128, Unsigned

#: Number of rows below which Python's integers, one row after the other, are as fast as columns.
FEW = 250
#: Rows whose quotients are computed at once: they stay in a core's cache, which halves the time.
BLOCK = 8192

_LONG = np.longdouble
_U = np.uint64
_32 = _U(32)
_BILLION = _U(10**9)
#: Whole parts of quotients below this are certain to one unit in long doubles, and have room in a product.
_MOST_WHOLE = 2.0**31


class Figures(NamedTuple):
    """Results as counts of 10⁻¹⁸, and a mask of those that fit DECIMAL(38,18); the others are 0."""

    counts: Int128
    fit: Mask

    def corrected(self, rows: Integers, values: Sequence[int]) -> Figures:
        """Return a copy with other results in the given rows: `values`, of any size; those that do not fit become 0."""
        counts, fit = Int128(self.counts.high.copy(), self.counts.low.copy()), self.fit.copy()
        fit[rows] = [abs(value) < LIMIT for value in values]
        counts.put(rows, Int128.of_ints([value if abs(value) < LIMIT else 0 for value in values]))
        return Figures(counts, fit)

    def column(self, rows: Integers | None = None, count: int = 0) -> pa.Array[Any]:
        """Return the results as a column of DECIMAL(38,18), null if one does not fit.

        With `rows`, the column has `count` rows, these results in the given ones and nulls in the others.
        """
        if rows is None:
            return self.counts.decimals(self.fit)
        counts, there = Int128.zeros(count), np.zeros(count, np.bool_)
        counts.put(rows, self.counts)
        there[rows] = self.fit
        return counts.decimals(there)


def half_up_quotients(numerators: Int128, denominators: Int128) -> Figures:
    """Return `decimal18.half_up_quotient` of each pair. Raises ZeroDivisionError if a denominator is 0."""
    if not LONG_ENOUGH or numerators.size < FEW:
        return _one_by_one(numerators, denominators)
    blocks = (slice(start, start + BLOCK) for start in range(0, max(1, numerators.size), BLOCK))
    found = [_quotients(numerators.at(block), denominators.at(block)) for block in blocks]
    counts = Int128(*(np.concatenate(halves) for halves in zip(*(one.counts for one in found), strict=True)))
    return Figures(counts, np.concatenate([one.fit for one in found]))


def half_up_means(sums: Int128, count: int) -> Figures:
    """Divide counts of 10⁻¹⁸, from 0 to below 2¹²⁶, by a whole number from 1 to below 2³¹, half-up."""
    by, found, rest = _U(count), [], np.zeros(sums.size, _U)
    for digit in (sums.high >> _32, sums.high & LOW_HALF, sums.low >> _32, sums.low & LOW_HALF):  # by short division
        digit = rest << _32 | digit
        found.append(digit // by)
        rest = digit - found[-1] * by
    quotients = Int128(found[0] << _32 | found[1], found[2] << _32 | found[3])
    quotients = quotients.plus(Int128.of_small((rest * _U(2) >= by).astype(np.int64)))
    return Figures(quotients, quotients.fits())


def _quotients(numerators: Int128, denominators: Int128) -> Figures:
    top, bottom = numerators.magnitude(), denominators.magnitude()
    calm = (top.high < HIGH_2_126) & (bottom.high < HIGH_2_126) & ((bottom.high | bottom.low) != 0)
    # Three roundings, of relative 2⁻⁶⁴ each: below 2³¹ the whole part is right to one unit.
    divisor = np.where(calm, bottom.long_doubles(), _LONG(1))
    whole = top.long_doubles() / divisor
    calm &= whole < _MOST_WHOLE
    units, rest = _divided(top, bottom, np.where(calm, whole, 0))
    # rest < bottom: four roundings of 2⁻⁶⁴ in a quotient below 10¹⁸ < 2⁶⁰ are a quarter of a unit.
    scaled = rest.long_doubles() / divisor * _LONG(ONE)
    decimals, rest = _divided(rest.times(_U(ONE)), bottom, np.where(calm, scaled, 0))
    # Half of the divisor or more is left: rest ≥ bottom − rest.
    up = ~rest.below(bottom.minus(rest))
    found = Int128.zeros(top.size)
    found = (
        Int128(found.high, units)
        .times(_U(ONE))
        .plus(Int128(found.high, decimals))
        .plus(Int128(found.high, up.astype(_U)))
    )
    found = found.where(numerators.negative == denominators.negative, Int128.zeros(top.size).minus(found))
    fit = np.ones(top.size, np.bool_)
    if not calm.all():
        left = np.flatnonzero(~calm)
        counts, fit[left] = _one_by_one(numerators.at(left), denominators.at(left))
        found.put(left, counts)
    return Figures(found, fit)


def half_up_products(products: pa.Array[Any]) -> Figures:
    """Round products of figures, decimal256 with 36 decimals and not negative, half-up to 18 decimals.

    Uses short division in digits to the base 2³². Arrow's own division of decimal256, with which it rounds and
    rescales, is wrong for some values (seen with Arrow 26; `tests/transforms/test_bars.py` has them).
    """
    digits = np.frombuffer(products.buffers()[1] or b"", np.uint32).reshape(-1, 8)  # type: ignore[arg-type]
    digits = digits[products.offset : products.offset + len(products)]
    quotient = [digits[:, place].astype(_U) for place in (range(8) if sys.byteorder == "little" else range(7, -1, -1))]
    rest = np.zeros(len(products), _U)
    for _ in range(2):  # 10¹⁸ is 10⁹ twice
        rest = np.zeros(len(products), _U)
        for place in range(7, -1, -1):
            if not quotient[place].any() and not rest.any():
                continue
            whole = rest << _32 | quotient[place]
            quotient[place] = whole // _BILLION
            rest = whole - quotient[place] * _BILLION
    # Half of 10⁹ or more in the higher part of the remainder is half of 10¹⁸ or more in the whole of it.
    found = Int128(quotient[3] << _32 | quotient[2], quotient[1] << _32 | quotient[0])
    found = found.plus(Int128(np.zeros(len(products), _U), (rest >= _BILLION // _U(2)).astype(_U)))
    high = quotient[4] | quotient[5] | quotient[6] | quotient[7]
    fit = found.fits() & ~found.negative & (high == 0)
    return Figures(found, fit)


def quotient_column(field: pa.Field[Any], numerators: Int128, denominators: Int128) -> pa.Array[Any]:
    """Divide row by row and return DECIMAL(38,18), half-up to 18 decimals.

    A quotient that does not fit becomes null if `field` is nullable, else it raises TerminalError, which names it.
    """
    found = half_up_quotients(numerators, denominators)
    if not field.nullable and not found.fit.all():
        left = np.flatnonzero(~found.fit)
        pairs = zip(numerators.at(left).ints(), denominators.at(left).ints(), strict=True)
        table_of_columns(pa.schema([field]), {field.name: [half_up_quotient(top, bottom) for top, bottom in pairs]})
    return found.column()


def _divided(top: Int128, bottom: Int128, estimate: npt.NDArray[np.longdouble]) -> tuple[Unsigned, Int128]:
    """Return quotient and remainder of numbers whose quotient is known to within one unit, by the estimate.

    The remainder of the estimate lies between −bottom and 2 · bottom, so it is right modulo 2¹²⁸ even if the product
    overflows.
    """
    quotient = estimate.astype(np.int64).view(_U)
    rest = top.minus(bottom.times(quotient))
    less = rest.negative
    if less.any():
        quotient, rest = quotient - less, rest.plus(bottom).where(less, rest)
    more = ~rest.below(bottom)
    if more.any():
        quotient, rest = quotient + more, rest.minus(bottom).where(more, rest)
    return quotient, rest


def _one_by_one(numerators: Int128, denominators: Int128) -> Figures:
    pairs = zip(numerators.ints(), denominators.ints(), strict=True)
    found = [half_up_quotient(top, bottom) for top, bottom in pairs]
    none = Figures(Int128.zeros(len(found)), np.zeros(len(found), np.bool_))
    return none.corrected(np.arange(len(found)), found)
