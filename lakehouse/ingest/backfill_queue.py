"""The queue of gaps to repair over REST, which decides for which gap to fetch the next page. No I/O, no clock.

An order is one gap. Orders of one symbol that lie within a page of each other become one backfill, because asking for
the ids between them costs less than another request. Backfills take turns page by page: the next page is for the
backfill with the fewest pages so far, and among these for the smallest, so that a gap of an hour neither delays the
others nor is delayed by them. Gaps whose ids the venue lacked before come last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lakehouse.exchanges.history import History
from lakehouse.id_ranges import IdRange, IdRanges

#: Most ids between two gaps that are fetched together: all three venues give 1,000 trades a page, so that costs one
#: request.
MERGE_IDS = 1_000
#: Most backfills of one venue. From then on an order joins a waiting backfill of its symbol, however far away: memory
#: stays small, and the number of requests grows.
MOST_BACKFILLS = 1_000


class Target(Protocol):
    """The record of one symbol's missing ids, which the repair reads and updates. Called by the repair's thread."""

    def still_missing(self, first: int, last: int) -> list[IdRange]:
        """Return the ranges within `first`..`last` (inclusive) that have not arrived, over a socket or a repair."""

    def delivered(self, first: int, last: int) -> None:
        """Take note that Kafka has acknowledged the repaired trades `first`..`last`: they are no longer missing."""

    def unavailable(self, first: int, last: int) -> None:
        """Take note that the venue lacks the trades `first`..`last`: they are no longer counted as missing."""


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """A request to repair one gap: inclusive ids, and the event times (µs) of the trades before and after it, if known.

    `target` is told of the result. `again`: the venue lacked these ids before, and is asked once more.
    """

    symbol: str
    target: Target
    first_id: int
    last_id: int
    ts_before: int | None = None
    ts_after: int | None = None
    again: bool = False


@dataclass(slots=True)
class Sent:
    """The ids of one page's trades that were handed to Kafka; `left` is how many Kafka has not acknowledged yet."""

    ids: IdRanges
    left: int


@dataclass(eq=False, slots=True)
class Backfill:
    """One or more gaps of one symbol that are repaired together, with the progress of the repair.

    `wanted` are the ids to fetch, `due` is when the next page may be asked for, `pages` how many have come. Times are
    monotonic seconds, except the event times (µs) `ts_before` and `ts_after` of the trades around the gaps.
    """

    symbol: str
    target: Target
    wanted: IdRanges
    ts_before: int | None
    ts_after: int | None
    due: float
    again: bool = False
    progress_at: float | None = None  #: when Kafka last acknowledged a trade of it, or when it began
    history: History | None = None
    pages: int = 0
    is_read: bool = False  #: no more pages are asked for; Kafka's acknowledgements may be outstanding
    given_up: str = ""  #: why no more pages are asked for, if that was before the history's end
    is_refused: bool = False  #: given up, because the venue will never answer this request
    sent: deque[Sent] = field(default_factory=deque)
    delivered: IdRanges = field(default_factory=IdRanges)  #: acknowledged by Kafka, no `gap_repaired` event yet
    newest: tuple[int, int] | None = None  #: id and event time (µs) of the highest trade that was sent to Kafka
    pauses: Iterator[float] | None = None  #: seconds to wait after each failure in a row; None after a success

    def span(self) -> IdRange:
        """Return the lowest and the highest wanted id."""
        first, last = self.wanted.lowest, self.wanted.highest
        assert first is not None, "a backfill wants at least one id"
        assert last is not None
        return first, last

    def distance(self, order: BackfillOrder) -> int:
        """Return how many ids lie between the order and this backfill; 0 if they touch or overlap."""
        first, last = self.span()
        return max(0, order.first_id - last - 1, first - order.last_id - 1)

    def take_in(self, order: BackfillOrder) -> None:
        """Add an order's ids to this backfill. Call it only before the first page is asked for."""
        first, last = self.span()
        if order.first_id < first:
            self.ts_before = order.ts_before
        if order.last_id > last:
            self.ts_after = order.ts_after
        self.wanted.add(order.first_id, order.last_id)
        self.again &= order.again


class BackfillQueue:
    """The unfinished backfills (repairs of one or more gaps) of one venue; chooses which of them is next.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._backfills: list[Backfill] = []

    def add(self, order: BackfillOrder, due: float) -> None:
        """Add an order to a waiting backfill within MERGE_IDS of it, or as a new one, due at `due` (monotonic seconds).

        Once there are MOST_BACKFILLS, it is added to a waiting backfill of its symbol, however far away. An order whose
        ids are all in one backfill already is ignored.
        """
        mine = [backfill for backfill in self._backfills if backfill.symbol == order.symbol]
        if any(not backfill.wanted.missing(order.first_id, order.last_id) for backfill in mine):
            return  # told twice
        waiting = [backfill for backfill in mine if backfill.history is None and not backfill.is_read]
        nearest = min(waiting, key=lambda backfill: backfill.distance(order), default=None)
        if nearest is not None and (nearest.distance(order) <= MERGE_IDS or len(self._backfills) >= MOST_BACKFILLS):
            nearest.take_in(order)
            return
        wanted = IdRanges([(order.first_id, order.last_id)])
        times = order.ts_before, order.ts_after
        self._backfills.append(Backfill(order.symbol, order.target, wanted, *times, due, order.again))

    def next(self, now: float) -> Backfill | None:
        """Return the backfill whose next page should be fetched now; None if none is due (`now`: monotonic seconds)."""
        due = (backfill for backfill in self._backfills if backfill.due <= now and not backfill.is_read)
        return min(due, key=lambda backfill: (backfill.again, backfill.pages, backfill.wanted.count()), default=None)

    def next_due(self) -> float | None:
        """Return when the next page of any backfill is due, in monotonic seconds; None if no page is left to fetch."""
        return min((backfill.due for backfill in self._backfills if not backfill.is_read), default=None)

    def remove(self, backfill: Backfill) -> None:
        """Remove a backfill that has ended. Raises ValueError if it is not in the queue."""
        self._backfills.remove(backfill)

    def in_flight(self) -> int:
        """Return how many repaired trades were handed to Kafka and are not acknowledged yet."""
        return sum(sent.left for backfill in self._backfills for sent in backfill.sent)

    def __iter__(self) -> Iterator[Backfill]:
        return iter(tuple(self._backfills))

    def __len__(self) -> int:
        return len(self._backfills)
