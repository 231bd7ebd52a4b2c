"""Which trade ids of one (venue, symbol) have been seen and which are missing. Pure: ids in, findings out.

Guarantee: between the lowest and the highest id that is known to exist, `missing()` is exactly the ids not observed.
Gap: a loss after the highest known id is invisible until a later trade, or a venue's heartbeat, shows it; and a mark
lives as long as its process (`resume_at` is the place where a persisted mark comes back in).

Time plays no part: hours without trades can have contiguous ids, and an id that is skipped is a lost trade.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What one observed id means."""

    FIRST = "first"  #: the first id ever: continuity starts here
    NEXT = "next"  #: one above the mark
    JUMP = "jump"  #: further above the mark: ids were skipped, a gap opens
    LATE = "late"  #: missing until now, or older than the first; may open a gap above itself in the latter case
    DUPLICATE = "duplicate"  #: seen before


@dataclass(frozen=True, slots=True)
class Gap:
    """Inclusive range of trade ids that exist at the venue and were not observed."""

    first_id: int
    last_id: int

    def __len__(self) -> int:
        return self.last_id - self.first_id + 1


@dataclass(frozen=True, slots=True)
class Observation:
    """The finding for one id, with the gap that it opened, if it did."""

    kind: Kind
    gap: Gap | None = None


# Values without a gap are shared: a busy symbol makes thousands of them a second.
_FIRST = Observation(Kind.FIRST)
_NEXT = Observation(Kind.NEXT)
_LATE = Observation(Kind.LATE)
_DUPLICATE = Observation(Kind.DUPLICATE)


class Continuity:
    """The id ledger of one (venue, symbol). Not thread-safe: it belongs to the thread of its socket."""

    __slots__ = ("_first_ids", "_last_ids", "_suspect", "low", "mark")

    def __init__(self) -> None:
        self.low: int | None = None  #: lowest id known
        self.mark: int | None = None  #: highest id known to exist: the high-water mark
        # Missing ranges, ascending and apart from each other, as two lists so that bisect needs no key function.
        self._first_ids: list[int] = []
        self._last_ids: list[int] = []
        self._suspect: int | None = None

    def resume_at(self, trade_id: int) -> None:
        """Start from a mark of an earlier process, so that what was traded in between shows as a gap.

        Raises ValueError where ids were observed already: a mark belongs before the first of them.
        """
        if self.mark is not None:
            raise ValueError(f"resume_at({trade_id}) after ids up to {self.mark} were observed; expected it before")
        self.low = self.mark = trade_id

    def observe(self, trade_id: int) -> Observation:
        """Take note of one received id."""
        mark = self.mark
        if mark is not None and trade_id == mark + 1:
            self.mark = trade_id
            return _NEXT
        low = self.low
        if mark is None or low is None:
            self.low = self.mark = trade_id
            return _FIRST
        if trade_id > mark:
            self.mark = trade_id
            return Observation(Kind.JUMP, self._open(mark + 1, trade_id - 1))
        if trade_id < low:
            self.low = trade_id
            if trade_id == low - 1:
                return _LATE
            return Observation(Kind.LATE, self._open(trade_id + 1, low - 1))
        return _LATE if self._fill(trade_id) else _DUPLICATE

    def heartbeat(self, last_trade_id: int) -> Gap | None:
        """Take note of the newest id that the venue names. Returns the gap at the tail, once it is certain.

        A trade may still be on its way when the heartbeat that counts it arrives, so an id must be ahead of the mark at
        two consecutive heartbeats before it is missing.
        """
        suspect, mark = self._suspect, self.mark
        self._suspect = last_trade_id
        if mark is None or suspect is None or suspect <= mark:
            return None
        self.mark = suspect
        return self._open(mark + 1, suspect)

    def missing(self) -> tuple[Gap, ...]:
        """Every id range missing at this moment, ascending."""
        return tuple(Gap(first, last) for first, last in zip(self._first_ids, self._last_ids, strict=True))

    def reconnected(self) -> None:
        """Forget the suspicion of the old connection: a heartbeat of it says nothing about the order on the new one."""
        self._suspect = None

    def _open(self, first: int, last: int) -> Gap:
        at = bisect_right(self._first_ids, first)
        if at and self._last_ids[at - 1] + 1 == first:
            # A heartbeat moved the mark without a trade, and what follows is missing too: one range, told in two parts.
            self._last_ids[at - 1] = last
        else:
            self._first_ids.insert(at, first)
            self._last_ids.insert(at, last)
        return Gap(first, last)

    def _fill(self, trade_id: int) -> bool:
        """Take an id out of the missing ones. False where it was not among them."""
        at = bisect_right(self._first_ids, trade_id) - 1
        if at < 0 or trade_id > self._last_ids[at]:
            return False
        first, last = self._first_ids[at], self._last_ids[at]
        if first == last:
            del self._first_ids[at], self._last_ids[at]
        elif trade_id == first:
            self._first_ids[at] = first + 1
        elif trade_id == last:
            self._last_ids[at] = last - 1
        else:
            self._last_ids[at] = trade_id - 1
            self._first_ids.insert(at + 1, trade_id + 1)
            self._last_ids.insert(at + 1, last)
        return True
