"""What is to be repaired, and which page of it is asked for next. Pure: it is told the time.

An order is one gap. Orders of one symbol that lie within a page of each other become one walk, since asking for the
ids between them costs less than another request. Walks take turns page by page: the one with the fewest pages so far,
the smallest first, so that a gap of an hour holds up neither the others nor itself. What the venue has shown not to
have waits for all others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lakehouse.exchanges.history import History
from lakehouse.id_ranges import IdRange, IdRanges

#: Ids. All three venues give 1,000 trades a page, so gaps that are closer than that cost one request together.
MERGE_IDS = 1_000
#: Walks of one venue. Beyond it an order joins a waiting walk of its symbol, however far away: what is kept stays small
#: and the requests go up.
MOST_WALKS = 1_000


class Target(Protocol):
    """Who wants the ids of one symbol. Called by the repair's thread."""

    def still_missing(self, first: int, last: int) -> list[IdRange]:
        """The parts of a range that nobody has brought yet."""

    def delivered(self, first: int, last: int) -> None:
        """Kafka has acknowledged these repaired trades."""

    def unavailable(self, first: int, last: int) -> None:
        """The venue has these ids no more."""


@dataclass(frozen=True, slots=True)
class Order:
    """A gap to repair: inclusive ids, and the event times (µs) of the trades before and behind, where known.

    `again`: the venue has shown not to have them, and is asked once more.
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
    """Trades of one page that were handed to Kafka. `left` goes down with the acknowledgements."""

    ids: IdRanges
    left: int


@dataclass(eq=False, slots=True)
class Walk:
    """Gaps of one symbol that are asked for together. Times are monotonic seconds."""

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
    is_read: bool = False  #: nothing more is asked; acknowledgements may be outstanding
    given_up: str = ""  #: why nothing more is asked, where that is not the history's end
    is_refused: bool = False  #: given up, because the venue will not answer this whenever it is asked
    sent: deque[Sent] = field(default_factory=deque)
    delivered: IdRanges = field(default_factory=IdRanges)  #: acknowledged, and not yet told as repaired
    newest: tuple[int, int] | None = None  #: id and event time of the highest trade that was sent
    pauses: Iterator[float] | None = None  #: of a series of failures

    def span(self) -> IdRange:
        """Lowest and highest wanted id."""
        first, last = self.wanted.lowest, self.wanted.highest
        assert first is not None, "a walk wants at least one id"
        assert last is not None
        return first, last

    def distance(self, order: Order) -> int:
        """Ids between the order and this walk; 0 where they touch or overlap."""
        first, last = self.span()
        return max(0, order.first_id - last - 1, first - order.last_id - 1)

    def take_in(self, order: Order) -> None:
        """Want the order's ids as well. Only before the walk has begun."""
        first, last = self.span()
        if order.first_id < first:
            self.ts_before = order.ts_before
        if order.last_id > last:
            self.ts_after = order.ts_after
        self.wanted.add(order.first_id, order.last_id)
        self.again &= order.again


class BackfillQueue:
    """All walks of one venue. Not thread-safe."""

    def __init__(self) -> None:
        self._walks: list[Walk] = []

    def add(self, order: Order, due: float) -> None:
        """Take an order. `due` is when to ask for it; one that joins a waiting walk goes with that."""
        mine = [walk for walk in self._walks if walk.symbol == order.symbol]
        if any(not walk.wanted.missing(order.first_id, order.last_id) for walk in mine):
            return  # told twice
        waiting = [walk for walk in mine if walk.history is None and not walk.is_read]
        nearest = min(waiting, key=lambda walk: walk.distance(order), default=None)
        if nearest is not None and (nearest.distance(order) <= MERGE_IDS or len(self._walks) >= MOST_WALKS):
            nearest.take_in(order)
            return
        wanted = IdRanges([(order.first_id, order.last_id)])
        times = order.ts_before, order.ts_after
        self._walks.append(Walk(order.symbol, order.target, wanted, *times, due, order.again))

    def next(self, now: float) -> Walk | None:
        """The walk to ask a page for; None where none is due."""
        due = (walk for walk in self._walks if walk.due <= now and not walk.is_read)
        return min(due, key=lambda walk: (walk.again, walk.pages, walk.wanted.count()), default=None)

    def next_due(self) -> float | None:
        """When the first waiting walk is due."""
        return min((walk.due for walk in self._walks if not walk.is_read), default=None)

    def remove(self, walk: Walk) -> None:
        """It has ended."""
        self._walks.remove(walk)

    def in_flight(self) -> int:
        """Trades that were handed to Kafka and are not acknowledged."""
        return sum(sent.left for walk in self._walks for sent in walk.sent)

    def ids(self) -> int:
        """Ids wanted by all walks."""
        return sum(walk.wanted.count() for walk in self._walks)

    def __iter__(self) -> Iterator[Walk]:
        return iter(tuple(self._walks))

    def __len__(self) -> int:
        return len(self._walks)
