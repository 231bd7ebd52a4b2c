"""Trades of one market in the order of their ids, each once; trades after a missing id wait. No I/O.

A market's ids follow each other without a gap, so a missing one is a trade that is still to come, or one that the venue
left out. The caller decides how long to wait: `hole` returns the ids that are waited for, `pass_over` gives them up. A
trade whose id was passed over is late.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from lakehouse.id_ranges import IdRange, IdRanges

T = TypeVar("T")


class Hole(NamedTuple):
    """Missing ids, inclusive, for which higher ids wait; `since`: when the lowest of the waiting trades came."""

    first: int
    last: int
    since: float


class InOrder(Generic[T]):
    """The trades of a market that have come, and those that may be passed on now."""

    def __init__(self, first: int | None = None, missing: Iterable[IdRange] = ()) -> None:
        """Begin at the id `first`; if it is None, at the first that comes. `missing`: ids below it that are wanted."""
        self._next = first
        self._got = IdRanges()
        self._held: dict[int, tuple[T, float]] = {}
        self._ids: list[int] = []
        self._late: list[T] = []
        if first is not None and first > 0:
            self._got.add(0, first - 1)
        for one in missing:
            self._got.remove(*one)

    def put(self, trade_id: int, trade: T, at: float) -> None:
        """Take a trade that came at the time `at`; drop it if it has come before.

        A trade whose id lies before the beginning is dropped too, unless the id is one of `missing`.
        """
        if self._next is None:
            self._next = trade_id
            if trade_id > 0:
                self._got.add(0, trade_id - 1)
        if not self._got.add(trade_id, trade_id):
            return
        if trade_id < self._next:
            self._late.append(trade)
        else:
            self._held[trade_id] = (trade, at)
            heapq.heappush(self._ids, trade_id)

    def ready(self) -> list[T]:
        """Take out the trades up to the next missing id, in order."""
        found: list[T] = []
        while self._ids and self._ids[0] == self._next:
            found.append(self._held.pop(heapq.heappop(self._ids))[0])
            self._next += 1
        return found

    def late(self) -> list[T]:
        """Take out the trades whose ids had been passed over."""
        found, self._late = self._late, []
        return found

    def hole(self) -> Hole | None:
        """Return the missing ids before the lowest trade that waits; None if none waits."""
        if not self._ids or self._next is None or self._ids[0] == self._next:
            return None
        lowest = self._ids[0]
        return Hole(self._next, lowest - 1, self._held[lowest][1])

    def pass_over(self) -> None:
        """Stop waiting for the ids of `hole`."""
        if self._ids:
            self._next = self._ids[0]

    @property
    def held(self) -> int:
        """Number of trades that wait."""
        return len(self._held)

    @property
    def highest(self) -> int | None:
        """The highest id that has come, or the one before the beginning; None if nothing is known."""
        return self._got.highest

    def wanted(self) -> list[IdRange]:
        """Return the ids below the highest that have not come, ascending."""
        highest = self._got.highest
        return [] if highest is None else self._got.missing(0, highest)
