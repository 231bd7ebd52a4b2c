"""Columns of 128-bit whole numbers, exactly: DECIMAL(38,18) as counts of 10⁻¹⁸, many at a time. Pure.

`exact` says what a figure is, one by one in Python's integers; this is the same arithmetic over columns, at a tenth of
the cost. A number is two halves of 64 bits, as Arrow keeps a decimal. Sums and products are taken modulo 2¹²⁸, which
NumPy's unsigned integers do by themselves; each use here says why no result is beyond that.

Guarantee: `half_up_quotients` is `exact.half_up_quotient` of each row. What is not certain by the bounds below (huge
figures, quotients from 2³¹ on), or where a few rows are not worth the arrays, is computed by that very function.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.transforms.arrow_numpy import Integers, Mask
from lakehouse.transforms.decimal18 import LIMIT, ONE, SCALE, half_up_quotient, table_of_columns

Unsigned = npt.NDArray[np.uint64]

FIGURE = pa.decimal128(38, SCALE)

_LONG = np.longdouble
#: A long double has 64 bits on x86 and 113 on Arm's Linux; elsewhere it may be a double, which has too few.
LONG_ENOUGH = bool(np.finfo(_LONG).eps <= 2.0**-63)

#: Fewer rows than these are as fast one by one.
FEW = 250
#: Rows whose quotients are made at once: they stay in a core's cache, which takes little more than half of the time.
BLOCK = 8192

_U = np.uint64
_32, _LOW, _TOP = _U(32), _U(0xFFFF_FFFF), _U(63)
_LOWER, _UPPER = (0, 1) if sys.byteorder == "little" else (1, 0)
_MASK = (1 << 64) - 1
_BILLION = _U(10**9)
#: Below 2¹²⁶ a number, twice itself and minus itself are told apart modulo 2¹²⁸.
_CALM = _U(1 << 62)
#: Whole parts of quotients below this are certain to one unit in long doubles, and have room in a product.
_MOST_WHOLE = 2.0**31


class Wide(NamedTuple):
    """Whole numbers from −2¹²⁷ to 2¹²⁷ − 1, in two's complement: high · 2⁶⁴ + low."""

    high: Unsigned
    low: Unsigned

    @classmethod
    def of(cls, column: Any) -> Wide:
        """Counts of a column of decimals; what is null is any number."""
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        whole = whole if whole.type == FIGURE else whole.cast(FIGURE)
        halves = np.frombuffer(whole.buffers()[1] or b"", _U).reshape(-1, 2)  # type: ignore[arg-type]
        halves = halves[whole.offset : whole.offset + len(whole)]
        return cls(halves[:, _UPPER].copy(), halves[:, _LOWER].copy())

    @classmethod
    def of_ints(cls, values: Sequence[int]) -> Wide:
        """Of Python's integers in that range."""
        high = np.array([value >> 64 & _MASK for value in values], _U)
        return cls(high, np.array([value & _MASK for value in values], _U))

    @classmethod
    def of_small(cls, values: Integers) -> Wide:
        """Of 64-bit integers."""
        return cls((values >> 63).view(_U), values.view(_U))

    @classmethod
    def zeros(cls, count: int) -> Wide:
        """So many zeros."""
        return cls(np.zeros(count, _U), np.zeros(count, _U))

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def negative(self) -> Mask:
        """Which are below 0."""
        found: Mask = self.high >> _TOP != 0
        return found

    def ints(self) -> list[int]:
        """As Python's integers."""
        halves = zip(self.high.view(np.int64).tolist(), self.low.tolist(), strict=True)
        return [high << 64 | low for high, low in halves]

    def at(self, which: Mask | Integers | slice) -> Wide:
        """Those that a mask, their numbers, or a slice name."""
        return Wide(self.high[which], self.low[which])

    def put(self, which: Mask | Integers, values: Wide) -> None:
        """Set some of them."""
        self.high[which], self.low[which] = values.high, values.low

    def plus(self, other: Wide) -> Wide:
        low = self.low + other.low
        return Wide(self.high + other.high + (low < other.low), low)

    def minus(self, other: Wide) -> Wide:
        return Wide(self.high - other.high - (self.low < other.low), self.low - other.low)

    def magnitude(self) -> Wide:
        """Without their signs; −2¹²⁷ stays."""
        negative = self.negative
        return self.where(~negative, Wide.zeros(self.size).minus(self)) if negative.any() else self

    def where(self, which: Mask, other: Wide) -> Wide:
        """These where the mask is true, else others."""
        return Wide(np.where(which, self.high, other.high), np.where(which, self.low, other.low))

    def times(self, factor: Unsigned | np.uint64) -> Wide:
        """Product with numbers below 2⁶⁴."""
        # By halves of 32 bits, whose products have 64.
        low, high, small, large = self.low & _LOW, self.low >> _32, factor & _LOW, factor >> _32
        lowest, one, other = low * small, high * small, low * large
        middle = one + (lowest >> _32)  # below 2⁶⁴: (2³² − 1)² + 2³²
        upper = high * large + (middle >> _32)
        middle = other + (middle & _LOW)
        return Wide(self.high * factor + upper + (middle >> _32), middle << _32 | lowest & _LOW)

    def below(self, other: Wide) -> Mask:
        """Whether each is less than the other; both from 0 on."""
        found: Mask = (self.high < other.high) | ((self.high == other.high) & (self.low < other.low))
        return found

    def long_doubles(self) -> npt.NDArray[np.longdouble]:
        """Each, from 0 on, rounded once."""
        found: npt.NDArray[np.longdouble] = self.high.astype(_LONG) * _LONG(2) ** 64 + self.low.astype(_LONG)
        return found

    def doubles(self) -> npt.NDArray[np.float64]:
        """Each, from 0 on, with three roundings."""
        found: npt.NDArray[np.float64] = self.high.astype(np.float64) * 2.0**64 + self.low.astype(np.float64)
        return found

    def fits(self) -> Mask:
        """Which are counts of a DECIMAL(38,18)."""
        size = self.magnitude()
        limit = Wide(np.full(size.size, LIMIT >> 64, _U), np.full(size.size, LIMIT & _MASK, _U))
        return size.below(limit)

    def decimals(self, there: Mask | None = None) -> pa.Array[Any]:
        """DECIMAL(38,18) of counts that fit; null where they are not `there`."""
        halves = np.empty((self.size, 2), _U)
        halves[:, _UPPER], halves[:, _LOWER] = self.high, self.low
        valid = None
        if there is not None and not there.all():
            halves[~there] = 0
            valid = pa.array(there).buffers()[1]
        return pa.Array.from_buffers(FIGURE, self.size, [valid, pa.py_buffer(halves.data)])


class Sums:
    """Sums over any run of rows of a column of numbers from 0 on."""

    def __init__(self, values: Wide) -> None:
        digits = (values.low & _LOW, values.low >> _32, values.high & _LOW, values.high >> _32)
        #: Of each digit to the base 2³², the sum over the first rows; entry 0 is of none.
        self._until = [np.concatenate([np.zeros(1, _U), np.cumsum(one)]) for one in digits]

    def between(self, first: Integers, end: Integers) -> tuple[Wide, Mask]:
        """Sums from row `first` to before row `end`, and which of them are 2¹²⁶ or more and not told right."""
        lowest, low, high, highest = (until[end] - until[first] for until in self._until)
        low_half = Wide(low >> _32, low << _32).plus(Wide(np.zeros_like(lowest), lowest))
        beyond = (high >> _32) + (low_half.high >> _32) + highest >= _CALM >> _32
        return Wide(low_half.high + high + (highest << _32), low_half.low), beyond

    def exactly(self, first: int, end: int) -> int:
        """One of them, however large."""
        return sum(int(until[end] - until[first]) << 32 * place for place, until in enumerate(self._until))


class Figures(NamedTuple):
    """Results and which of them fit DECIMAL(38,18); what does not is 0."""

    counts: Wide
    fit: Mask

    def corrected(self, rows: Integers, values: Sequence[int]) -> Figures:
        """With other results, of any size, in some rows."""
        counts, fit = Wide(self.counts.high.copy(), self.counts.low.copy()), self.fit.copy()
        fit[rows] = [abs(value) < LIMIT for value in values]
        counts.put(rows, Wide.of_ints([value if abs(value) < LIMIT else 0 for value in values]))
        return Figures(counts, fit)

    def column(self, rows: Integers | None = None, count: int = 0) -> pa.Array[Any]:
        """As DECIMAL(38,18), null where they do not fit; or as some rows of `count`, of which the others are null."""
        if rows is None:
            return self.counts.decimals(self.fit)
        counts, there = Wide.zeros(count), np.zeros(count, np.bool_)
        counts.put(rows, self.counts)
        there[rows] = self.fit
        return counts.decimals(there)


def half_up_quotients(numerators: Wide, denominators: Wide) -> Figures:
    """`exact.half_up_quotient` of each pair. Raises ZeroDivisionError for a denominator of 0."""
    if not LONG_ENOUGH or numerators.size < FEW:
        return _one_by_one(numerators, denominators)
    blocks = (slice(start, start + BLOCK) for start in range(0, max(1, numerators.size), BLOCK))
    found = [_quotients(numerators.at(block), denominators.at(block)) for block in blocks]
    counts = Wide(*(np.concatenate(halves) for halves in zip(*(one.counts for one in found), strict=True)))
    return Figures(counts, np.concatenate([one.fit for one in found]))


def half_up_means(sums: Wide, count: int) -> Figures:
    """Each of some sums, from 0 to below 2¹²⁶, divided by a small whole number; half-up."""
    by, found, rest = _U(count), [], np.zeros(sums.size, _U)
    for digit in (sums.high >> _32, sums.high & _LOW, sums.low >> _32, sums.low & _LOW):  # by short division
        digit = rest << _32 | digit
        found.append(digit // by)
        rest = digit - found[-1] * by
    quotients = Wide(found[0] << _32 | found[1], found[2] << _32 | found[3])
    quotients = quotients.plus(Wide.of_small((rest * _U(2) >= by).astype(np.int64)))
    return Figures(quotients, quotients.fits())


def _quotients(numerators: Wide, denominators: Wide) -> Figures:
    top, bottom = numerators.magnitude(), denominators.magnitude()
    calm = (top.high < _CALM) & (bottom.high < _CALM) & ((bottom.high | bottom.low) != 0)
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
    found = Wide.zeros(top.size)
    found = (
        Wide(found.high, units).times(_U(ONE)).plus(Wide(found.high, decimals)).plus(Wide(found.high, up.astype(_U)))
    )
    found = found.where(numerators.negative == denominators.negative, Wide.zeros(top.size).minus(found))
    fit = np.ones(top.size, np.bool_)
    if not calm.all():
        left = np.flatnonzero(~calm)
        counts, fit[left] = _one_by_one(numerators.at(left), denominators.at(left))
        found.put(left, counts)
    return Figures(found, fit)


def half_up_products(products: pa.Array[Any]) -> Figures:
    """Products of figures, 36 decimals in a decimal256 from 0 on, half-up to 18 decimals.

    By short division, as at school, in digits to the base 2³². Arrow's own division of decimal256, with which it rounds
    and rescales, is wrong for some values (seen with Arrow 26: a test in `tests/transforms/test_bars.py` has them).
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
    found = Wide(quotient[3] << _32 | quotient[2], quotient[1] << _32 | quotient[0])
    found = found.plus(Wide(np.zeros(len(products), _U), (rest >= _BILLION // _U(2)).astype(_U)))
    high = quotient[4] | quotient[5] | quotient[6] | quotient[7]
    fit = found.fits() & ~found.negative & (high == 0)
    return Figures(found, fit)


def quotient_column(field: pa.Field[Any], numerators: Wide, denominators: Wide) -> pa.Array[Any]:
    """Quotients as a column. What does not fit is null where that may be, else a TerminalError, as in `exact`."""
    found = half_up_quotients(numerators, denominators)
    if not field.nullable and not found.fit.all():
        left = np.flatnonzero(~found.fit)
        pairs = zip(numerators.at(left).ints(), denominators.at(left).ints(), strict=True)
        table_of_columns(pa.schema([field]), {field.name: [half_up_quotient(top, bottom) for top, bottom in pairs]})
    return found.column()


def _divided(top: Wide, bottom: Wide, estimate: npt.NDArray[np.longdouble]) -> tuple[Unsigned, Wide]:
    """Quotient and remainder of numbers whose quotient the estimate tells to one unit, up or down.

    The remainder of the estimate lies between −bottom and 2 · bottom, so modulo 2¹²⁸ it is told right, whatever the
    product that it is the rest of.
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


def _one_by_one(numerators: Wide, denominators: Wide) -> Figures:
    pairs = zip(numerators.ints(), denominators.ints(), strict=True)
    found = [half_up_quotient(top, bottom) for top, bottom in pairs]
    none = Figures(Wide.zeros(len(found)), np.zeros(len(found), np.bool_))
    return none.corrected(np.arange(len(found)), found)
