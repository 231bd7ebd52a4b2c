"""Columns of 128-bit whole numbers: DECIMAL(38,18) as counts of 10⁻¹⁸, many at a time. Pure.

A number is two halves of 64 bits, as Arrow stores a decimal. Sums and products are taken modulo 2¹²⁸, which NumPy's
unsigned integers do by themselves; each use says why no result exceeds that. `decimal18` handles single figures as
Python integers, `quotients` divides columns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.transforms.arrow_numpy import Integers, Mask
from lakehouse.transforms.decimal18 import LIMIT, SCALE

Unsigned = npt.NDArray[np.uint64]

FIGURE = pa.decimal128(38, SCALE)

_LONG = np.longdouble
#: A long double has 64 bits on x86 and 113 on Arm's Linux; elsewhere it may be a double, which has too few.
LONG_ENOUGH = bool(np.finfo(_LONG).eps <= 2.0**-63)

_U = np.uint64
#: Mask of the lower half of 64 bits.
LOW_HALF = _U(0xFFFF_FFFF)
_32, _TOP = _U(32), _U(63)
_LOWER, _UPPER = (0, 1) if sys.byteorder == "little" else (1, 0)
_MASK = (1 << 64) - 1
#: High half of 2¹²⁶. Below it a number, its double and its negative stay distinct modulo 2¹²⁸.
HIGH_2_126 = _U(1 << 62)


class Int128(NamedTuple):
    """Whole numbers from −2¹²⁷ to 2¹²⁷ − 1, in two's complement: high · 2⁶⁴ + low."""

    high: Unsigned
    low: Unsigned

    @classmethod
    def of(cls, column: Any) -> Int128:
        """Convert a column of decimals to counts of 10⁻¹⁸; a null becomes an arbitrary number."""
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        whole = whole if whole.type == FIGURE else whole.cast(FIGURE)
        halves = np.frombuffer(whole.buffers()[1] or b"", _U).reshape(-1, 2)  # type: ignore[arg-type]
        halves = halves[whole.offset : whole.offset + len(whole)]
        return cls(halves[:, _UPPER].copy(), halves[:, _LOWER].copy())

    @classmethod
    def of_ints(cls, values: Sequence[int]) -> Int128:
        """Convert Python integers from −2¹²⁷ to 2¹²⁷ − 1."""
        high = np.array([value >> 64 & _MASK for value in values], _U)
        return cls(high, np.array([value & _MASK for value in values], _U))

    @classmethod
    def of_small(cls, values: Integers) -> Int128:
        """Convert 64-bit integers."""
        return cls((values >> 63).view(_U), values.view(_U))

    @classmethod
    def zeros(cls, count: int) -> Int128:
        """Return `count` zeros."""
        return cls(np.zeros(count, _U), np.zeros(count, _U))

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def negative(self) -> Mask:
        """Mask of the numbers below 0."""
        found: Mask = self.high >> _TOP != 0
        return found

    def ints(self) -> list[int]:
        """Convert to a list of Python integers."""
        halves = zip(self.high.view(np.int64).tolist(), self.low.tolist(), strict=True)
        return [high << 64 | low for high, low in halves]

    def at(self, which: Mask | Integers | slice) -> Int128:
        """Return the numbers that a mask, row numbers or a slice select."""
        return Int128(self.high[which], self.low[which])

    def put(self, which: Mask | Integers, values: Int128) -> None:
        """Replace, in place, the numbers that a mask or row numbers select by `values`, in order."""
        self.high[which], self.low[which] = values.high, values.low

    def plus(self, other: Int128) -> Int128:
        low = self.low + other.low
        return Int128(self.high + other.high + (low < other.low), low)

    def minus(self, other: Int128) -> Int128:
        return Int128(self.high - other.high - (self.low < other.low), self.low - other.low)

    def magnitude(self) -> Int128:
        """Return the absolute values; −2¹²⁷ stays as it is."""
        negative = self.negative
        return self.where(~negative, Int128.zeros(self.size).minus(self)) if negative.any() else self

    def where(self, which: Mask, other: Int128) -> Int128:
        """Return, row by row, this number if the mask is true, else that of `other`."""
        return Int128(np.where(which, self.high, other.high), np.where(which, self.low, other.low))

    def times(self, factor: Unsigned | np.uint64) -> Int128:
        """Multiply by one number below 2⁶⁴, or row by row by a column of them, modulo 2¹²⁸."""
        # In halves of 32 bits, whose products have 64.
        low, high, small, large = self.low & LOW_HALF, self.low >> _32, factor & LOW_HALF, factor >> _32
        lowest, one, other = low * small, high * small, low * large
        middle = one + (lowest >> _32)  # below 2⁶⁴: (2³² − 1)² + 2³²
        upper = high * large + (middle >> _32)
        middle = other + (middle & LOW_HALF)
        return Int128(self.high * factor + upper + (middle >> _32), middle << _32 | lowest & LOW_HALF)

    def below(self, other: Int128) -> Mask:
        """Mask of the numbers that are less than the other column's; neither may be negative."""
        found: Mask = (self.high < other.high) | ((self.high == other.high) & (self.low < other.low))
        return found

    def long_doubles(self) -> npt.NDArray[np.longdouble]:
        """Convert to long doubles, each rounded once; no number may be negative."""
        found: npt.NDArray[np.longdouble] = self.high.astype(_LONG) * _LONG(2) ** 64 + self.low.astype(_LONG)
        return found

    def doubles(self) -> npt.NDArray[np.float64]:
        """Convert to doubles, each rounded three times; no number may be negative."""
        found: npt.NDArray[np.float64] = self.high.astype(np.float64) * 2.0**64 + self.low.astype(np.float64)
        return found

    def fits(self) -> Mask:
        """Mask of the numbers that fit DECIMAL(38,18) as counts of 10⁻¹⁸: magnitudes below 10³⁸."""
        size = self.magnitude()
        limit = Int128(np.full(size.size, LIMIT >> 64, _U), np.full(size.size, LIMIT & _MASK, _U))
        return size.below(limit)

    def decimals(self, there: Mask | None = None) -> pa.Array[Any]:
        """Convert counts of 10⁻¹⁸, all of which fit, to DECIMAL(38,18); null if the mask `there` is false."""
        halves = np.empty((self.size, 2), _U)
        halves[:, _UPPER], halves[:, _LOWER] = self.high, self.low
        valid = None
        if there is not None and not there.all():
            halves[~there] = 0
            valid = pa.array(there).buffers()[1]
        return pa.Array.from_buffers(FIGURE, self.size, [valid, pa.py_buffer(halves.data)])


class Sums:
    """Sums over any contiguous rows of a column without negative numbers, by running sums that are made once."""

    def __init__(self, values: Int128) -> None:
        digits = (values.low & LOW_HALF, values.low >> _32, values.high & LOW_HALF, values.high >> _32)
        #: For each digit to the base 2³², the running sum over the rows; entry 0 is 0.
        self._until = [np.concatenate([np.zeros(1, _U), np.cumsum(one)]) for one in digits]

    def between(self, first: Integers, end: Integers) -> tuple[Int128, Mask]:
        """Return the sums of rows `first` to `end` − 1, one for each pair, and a mask of the sums from 2¹²⁶ on.

        The masked sums are returned wrong; `exactly` computes them.
        """
        lowest, low, high, highest = (until[end] - until[first] for until in self._until)
        low_half = Int128(low >> _32, low << _32).plus(Int128(np.zeros_like(lowest), lowest))
        beyond = (high >> _32) + (low_half.high >> _32) + highest >= HIGH_2_126 >> _32
        return Int128(low_half.high + high + (highest << _32), low_half.low), beyond

    def exactly(self, first: int, end: int) -> int:
        """Return the sum of rows `first` to `end` − 1, however large."""
        return sum(int(until[end] - until[first]) << 32 * place for place, until in enumerate(self._until))
