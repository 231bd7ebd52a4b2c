"""RowKeys of Gold's rows, in columns: which are wanted, which are equal, in what order they stand. Pure.

A place is the key of a row: venue and symbol of a bar, or base and quote of a pair, and a start in microseconds since
the epoch, UTC. A batch of many symbols has some ten thousand of them. As columns they are compared at a hundredth of
what tuples cost: names are looked at once each (Arrow's dictionaries), and rows by whole numbers (`codes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.transforms.arrow_numpy import Integers, Mask, coded, differs, integers, ranked

#: venue and symbol, or base and quote, and the start.
RowKey = tuple[str, str, int]

_MICROS = pa.timestamp("us", tz="UTC")
_NAMES = pa.dictionary(pa.int32(), pa.string())
_MOST = 2**62
#: Starts alone are compared first where one lot is so many times the other.
FEW = 4


@dataclass(frozen=True, eq=False)
class RowKeys:
    """Some places, in some order; one may be there more than once."""

    #: Names, as dictionary arrays; a dictionary may have names that no place has.
    first: Any
    second: Any
    start: Integers

    @classmethod
    def of(cls, rows: pa.Table, key: Sequence[str]) -> RowKeys:
        """Of each row of a table with such a key; starts are times, or µs since the epoch."""
        starts = rows.column(key[2])
        if pa.types.is_timestamp(starts.type):
            starts = starts.cast(_MICROS)
        return cls(_text(rows.column(key[0])), _text(rows.column(key[1])), integers(starts))

    @classmethod
    def of_tuples(cls, places: Iterable[RowKey]) -> RowKeys:
        """Of tuples."""
        rows = list(places)
        first, second = (pa.array([row[number] for row in rows], pa.string()) for number in (0, 1))
        return cls(_text(first), _text(second), np.array([row[2] for row in rows], np.int64))

    def __len__(self) -> int:
        return len(self.start)

    def tuples(self) -> list[RowKey]:
        """As tuples, in order."""
        columns: list[list[Any]] = [self.first.to_pylist(), self.second.to_pylist(), self.start.tolist()]
        return list(zip(*columns, strict=True))

    def at(self, which: Mask | Integers) -> RowKeys:
        """Those that a mask, or their numbers, name."""
        rows: Integers = np.flatnonzero(which) if which.dtype == np.bool_ else which.astype(np.int64, copy=False)
        return RowKeys(self.first.take(rows), self.second.take(rows), self.start[rows])

    def starting(self, start: Integers) -> RowKeys:
        """The same names, with other starts."""
        return RowKeys(self.first, self.second, start)

    def plus(self, *others: RowKeys) -> RowKeys:
        """These and others."""
        every = [self, *others]
        return RowKeys(
            pa.concat_arrays([one.first for one in every]),
            pa.concat_arrays([one.second for one in every]),
            np.concatenate([one.start for one in every]),
        )

    def pairs(self) -> tuple[list[tuple[str, str]], Integers]:
        """The different pairs of names, and of each place which of them it has."""
        firsts, first = coded(self.first)
        seconds, second = coded(self.second)
        encoded = pa.array(first * len(seconds) + second).dictionary_encode()
        names = [
            (firsts[code // len(seconds)], seconds[code % len(seconds)]) for code in encoded.dictionary.to_pylist()
        ]
        return names, encoded.indices.to_numpy().astype(np.int64)

    def begins(self) -> Mask:
        """Of places in order, which have other names than the one before."""
        return differs(codes(self.starting(np.zeros(len(self), np.int64)))[0])

    def once(self) -> RowKeys:
        """Each place once, in order."""
        return self.at(np.unique(codes(self)[0], return_index=True)[1])

    def among(self, wanted: RowKeys) -> Mask:
        """Whether each of these is one of the wanted."""
        rows, others = _near(self.start, wanted.start)
        found = np.zeros(len(self), np.bool_)
        found[rows] = is_in(*codes(self._some(rows), wanted._some(others)))
        return found

    def _some(self, rows: Integers) -> RowKeys:
        """As `at`, of different numbers in order."""
        return self if len(rows) == len(self) else self.at(rows)


def codes(*many: RowKeys) -> list[Integers]:
    """Whole numbers that compare as places do: by first name, by second name, by start."""
    _, firsts = ranked(pa.concat_arrays([one.first for one in many]))
    names, seconds = ranked(pa.concat_arrays([one.second for one in many]))
    starts = np.concatenate([one.start for one in many])
    if not len(starts):
        return [starts for _ in many]
    pairs = firsts * names + seconds
    lowest = int(starts.min())
    span = int(starts.max()) - lowest + 1
    if (int(pairs.max()) + 1) * span >= _MOST:  # thousands of pairs over thousands of years
        different, ranks = np.unique(starts, return_inverse=True)
        found = pairs * len(different) + ranks
    else:
        found = pairs * span + (starts - lowest)
    return np.split(found, np.cumsum([len(one) for one in many])[:-1])


def _near(some: Integers, others: Integers) -> tuple[Integers, Integers]:
    """Which of two lots of starts may be equal to one of the other lot: few of many are found before names are read."""
    if not len(some) or not len(others):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    low, high = max(some.min(), others.min()), min(some.max(), others.max())
    here, there = (np.flatnonzero((starts >= low) & (starts <= high)) for starts in (some, others))
    if len(here) * FEW < len(there):
        there = there[is_in(others[there], some[here])]
    elif len(there) * FEW < len(here):
        here = here[is_in(some[here], others[there])]
    return here, there


def is_in(values: Integers, wanted: Integers) -> Mask:
    """Whether each value is one of the wanted."""
    found: Mask = pc.is_in(pa.array(values), value_set=pa.array(wanted)).to_numpy(zero_copy_only=False)
    return found


def _text(column: Any) -> Any:
    """One dictionary array of text, whatever a file of another writer holds it as."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if whole.type == _NAMES else whole.cast(pa.string()).dictionary_encode()
