"""Track which trade ids of one (venue, symbol) were observed and which are missing. No I/O.

The mark is the highest id that is known to exist. Guarantee: between the lowest known id and the mark, `missing()` has
exactly the ids that were neither observed nor closed, in whatever order the others came. Limit: a loss above the mark
is invisible until a later trade, a venue's heartbeat or its REST history shows it. A mark lives as long as its process;
`resume_at` restores the mark of an earlier process (`resume`).

Time plays no part: hours without trades can have contiguous ids, and an id that is skipped is a lost trade.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from lakehouse.id_ranges import IdRange, IdRanges


class Kind(Enum):
    """How an observed id relates to the ids before it; the mark is the highest id known so far."""

    FIRST = "first"  #: the first id of the symbol: nothing is expected below it
    NEXT = "next"  #: the mark + 1, as expected
    JUMP = "jump"  #: further above the mark: ids were skipped, which opens a gap
    LATE = "late"  #: it was missing, or it is below the lowest known id, which may open a gap between the two
    DUPLICATE = "duplicate"  #: it was observed before


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of trade ids, inclusive, that exist at the venue but have not arrived. `len` is their number."""

    first_id: int
    last_id: int

    def __len__(self) -> int:
        return self.last_id - self.first_id + 1


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of observing one id: its kind, and the gap that it opened, None if it opened none."""

    kind: Kind
    gap: Gap | None = None


# Values without a gap are shared: a busy symbol makes thousands of them a second.
_FIRST = Observation(Kind.FIRST)
_NEXT = Observation(Kind.NEXT)
_LATE = Observation(Kind.LATE)
_DUPLICATE = Observation(Kind.DUPLICATE)

#: Below every id: after `resume_at`, what lies under the mark and is not missing is in hand since an earlier process.
_BELOW_ALL = -(1 << 63)


class IdTracker:
    """The observed and missing trade ids of one (venue, symbol). Not thread-safe: `SymbolSequence` has the lock."""

    __slots__ = ("_floor", "_looked", "_missing", "_suspect", "low", "mark", "open_ids")

    def __init__(self) -> None:
        self.low: int | None = None  #: lowest known id; None before the first
        self.mark: int | None = None  #: highest id known to exist, the high-water mark; None before the first
        self.open_ids = 0  #: how many ids are missing; a plain number, so that any thread may read it
        self._missing = IdRanges()
        self._suspect: int | None = None
        self._looked: int | None = None
        self._floor: int | None = None  # REST's newest id before the first one came: what is above it is wanted

    def resume_at(self, trade_id: int, missing: Iterable[IdRange] = ()) -> None:
        """Start from `trade_id`, the mark of an earlier process, so that ids traded since then show as a gap.

        `missing` are ranges up to the mark that the earlier process left open. Raises ValueError if ids were observed
        already, or if a range ends above the mark.
        """
        if self.mark is not None:
            raise ValueError(f"resume_at({trade_id}) after ids up to {self.mark} were observed; expected it before")
        left = IdRanges(missing)
        if left.highest is not None and left.highest > trade_id:
            raise ValueError(f"ids up to {left.highest} missing; expected none above the mark {trade_id}")
        self.low, self.mark = _BELOW_ALL, trade_id
        self._missing, self.open_ids = left, left.count()

    def observe(self, trade_id: int) -> Observation:
        """Take note of one received trade id; return its kind and the gap that it opened, if any."""
        mark = self.mark
        if mark is not None and trade_id == mark + 1:
            self.mark = trade_id
            return _NEXT
        low = self.low
        if mark is None or low is None:
            floor, self.low, self.mark = self._floor, trade_id, trade_id
            if floor is None or trade_id <= floor + 1:
                return _FIRST
            self.low = floor + 1
            return Observation(Kind.JUMP, self._open(floor + 1, trade_id - 1))
        if trade_id > mark:
            self.mark = trade_id
            return Observation(Kind.JUMP, self._open(mark + 1, trade_id - 1))
        if trade_id < low:
            self.low = trade_id
            if trade_id == low - 1:
                return _LATE
            return Observation(Kind.LATE, self._open(trade_id + 1, low - 1))
        return _LATE if self.close(trade_id, trade_id) else _DUPLICATE

    def close(self, first: int, last: int) -> int:
        """Remove the ids `first`..`last` from the missing ones: they are in hand, or the venue lacks them.

        Returns how many of them were missing.
        """
        closed = self._missing.remove(first, last)
        self.open_ids -= closed
        return closed

    def heartbeat(self, last_trade_id: int) -> Gap | None:
        """Take note of the newest trade id that a venue's heartbeat gives; return the gap above the mark, if certain.

        None if there is none, or not yet: a trade may still be on its way when the heartbeat that counts it arrives, so
        ids count as missing only if they were above the mark at two consecutive heartbeats.
        """
        suspect, self._suspect = self._suspect, last_trade_id
        return self._tail(suspect)

    def look(self, newest_id: int) -> Gap | None:
        """Take note of the newest trade id in the venue's REST history; return the gap above the mark, if certain.

        Ids count as missing only if they were above the mark at two consecutive looks, as at two heartbeats. Leave more
        time between two looks than a trade needs to arrive. If the symbol has had no trade so far, the ids above the
        newest one of the first look are expected from then on.
        """
        if self.mark is None and self._floor is None:
            self._floor = newest_id
        looked, self._looked = self._looked, newest_id
        return self._tail(looked)

    def reconnected(self) -> None:
        """Forget the last heartbeat, because a new connection begins: heartbeats of two connections are not compared.

        The last `look` is kept: the new connection will not deliver trades that REST has already shown.
        """
        self._suspect = None

    def missing(self) -> tuple[Gap, ...]:
        """Return every range of ids that is missing at this moment, ascending."""
        return tuple(Gap(first, last) for first, last in self._missing)

    def missing_within(self, first: int, last: int) -> list[IdRange]:
        """Return the ranges within `first`..`last` (inclusive) that are missing at this moment, ascending."""
        return self._missing.within(first, last)

    def _tail(self, newest: int | None) -> Gap | None:
        mark = self.mark if self.mark is not None else self._floor
        if mark is None or newest is None or newest <= mark:
            return None
        self.mark = newest
        self.low = mark + 1 if self.low is None else self.low
        return self._open(mark + 1, newest)

    def _open(self, first: int, last: int) -> Gap:
        self.open_ids += self._missing.add(first, last)
        return Gap(first, last)
