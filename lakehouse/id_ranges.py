"""A set of trade ids as disjoint, ascending, inclusive ranges. No I/O.

Millions of contiguous ids are one range, so what is known of a symbol's whole history fits in a few numbers. Ranges
that touch are joined, so that two sets with the same ids always hold the same ranges, in whatever order they came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

#: First and last id of a range, both inclusive.
IdRange = tuple[int, int]


class IdRanges:
    """Ids as ranges. Every operation costs a binary search and the ranges that it touches. Not thread-safe."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[IdRange] = ()) -> None:
        # Two lists rather than one of pairs, so that bisect needs no key function.
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int) -> int:
        """Put in every id from `first` to `last` and return how many were not there before.

        Raises ValueError if `first` is above `last`.
        """
        _require_order(first, last)
        # Ranges that touch as well as those that overlap: hence the 1 on either side.
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        there = sum(min(last, self._lasts[at]) - max(first, self._firsts[at]) + 1 for at in range(low, high))
        # A range that only touches contributes 0: its overlap is from last + 1 to last.
        joined_first = min(first, self._firsts[low]) if low < high else first
        joined_last = max(last, self._lasts[high - 1]) if low < high else last
        self._firsts[low:high] = [joined_first]
        self._lasts[low:high] = [joined_last]
        return last - first + 1 - there

    def remove(self, first: int, last: int) -> int:
        """Take out every id from `first` to `last` and return how many were there before.

        Raises ValueError if `first` is above `last`.
        """
        _require_order(first, last)
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        parts = self.within(first, last)
        if not parts:
            return 0
        rest: list[IdRange] = []
        if self._firsts[low] < first:
            rest.append((self._firsts[low], first - 1))
        if self._lasts[high - 1] > last:
            rest.append((last + 1, self._lasts[high - 1]))
        self._firsts[low:high] = [one for one, _ in rest]
        self._lasts[low:high] = [one for _, one in rest]
        return sum(part_last - part_first + 1 for part_first, part_last in parts)

    def within(self, first: int, last: int) -> list[IdRange]:
        """Return the parts of `first`..`last` that are in the set, ascending."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return [(max(first, self._firsts[at]), min(last, self._lasts[at])) for at in range(low, high)]

    def around(self, first: int, last: int) -> list[IdRange]:
        """Return the set's ranges that overlap `first`..`last`, ascending and not cut at these two ids."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return list(zip(self._firsts[low:high], self._lasts[low:high], strict=True))

    def missing(self, first: int, last: int) -> list[IdRange]:
        """Return the parts of `first`..`last` that are not in the set, ascending."""
        parts: list[IdRange] = []
        expected = first
        for part_first, part_last in self.within(first, last):
            if part_first > expected:
                parts.append((expected, part_first - 1))
            expected = part_last + 1
        if expected <= last:
            parts.append((expected, last))
        return parts

    def covers(self, first: int, last: int) -> bool:
        """Return True if every id from `first` to `last` is in the set."""
        at = bisect_left(self._lasts, first)
        return at < len(self._firsts) and self._firsts[at] <= first and last <= self._lasts[at]

    def count(self) -> int:
        """Count the ids in the set."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def lowest(self) -> int | None:
        """The lowest id, None if there is none."""
        return self._firsts[0] if self._firsts else None

    @property
    def highest(self) -> int | None:
        """The highest id, None if there is none."""
        return self._lasts[-1] if self._lasts else None

    def __contains__(self, trade_id: int) -> bool:
        return self.covers(trade_id, trade_id)

    def __iter__(self) -> Iterator[IdRange]:
        """Iterate over the ranges, ascending. They do not touch each other."""
        return zip(tuple(self._firsts), tuple(self._lasts), strict=True)

    def __len__(self) -> int:
        """Return the number of ranges; `count` counts the ids."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdRanges) and self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IdRanges({list(self)})"


def _require_order(first: int, last: int) -> None:
    if first > last:
        raise ValueError(f"id range {first}..{last}; expected the first id not above the last")
