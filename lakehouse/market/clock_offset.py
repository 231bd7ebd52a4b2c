"""Compare this machine's clock with the venues' clocks, by when trades happened and when they were received. Pure.

A trade cannot be received before it happened, and is received within a second or so. So if three quarters of a venue's
trades come seconds before their own time, this machine's clock is slow; a few wrong times from the venue prove nothing.
Trades that come late say less: a feed that lags looks like a clock that is fast, unless two venues come late by the
same time.
Limit: a clock that is off by less than the bounds below goes unnoticed, and does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: If trades are received more than this many seconds before their own time, this machine's clock counts as slow: more
#: than a venue's clock, or one that is set by NTP, is off.
SLOW_SECONDS = 5.0
#: If they are received more than this many seconds after it, the clock is fast or the feed lags: more than a busy
#: machine or a venue under load lags, as a rule.
LATE_SECONDS = 30.0
#: Trades later than this many seconds may be a recording that is played, and say something of a clock only if the
#: trades of another venue are as late.
HISTORY_SECONDS = 86_400.0
#: Fewest trades for an offset: of fewer, three quarters would be two or three, which may share a wrong time.
FEWEST = 10
#: Seconds by which two venues may differ and still show the same clock: their ways to us differ by less.
SAME_SECONDS = 5.0


@dataclass(frozen=True)
class Offset:
    """The time from a venue's trades to their receipt by this machine's clock; negative if that clock is slow."""

    seconds: float  #: the median delay
    is_off: bool  #: three quarters of the trades lie beyond SLOW_SECONDS or LATE_SECONDS
    may_be_history: bool = False  #: so late that one venue alone does not tell a fast clock from a recording

    def is_like(self, other: Offset) -> bool:
        """Return True if both are off by the same time (within 5 s), so that this machine's clock explains both."""
        return self.is_off and other.is_off and abs(self.seconds - other.seconds) <= SAME_SECONDS


def offset_of(delays: Sequence[int]) -> Offset | None:
    """Compute a venue's Offset from the delays of its live trades, in µs: receive time minus event time.

    None if there are fewer than `FEWEST` delays.
    """
    if len(delays) < FEWEST:
        return None
    ordered = sorted(delays)
    quarter, median, last = (ordered[len(ordered) * part // 4] / 1_000_000 for part in (1, 2, 3))
    return Offset(median, last < -SLOW_SECONDS or quarter > LATE_SECONDS, quarter > HISTORY_SECONDS)


def without_history(offsets: Mapping[str, Offset]) -> dict[str, Offset]:
    """Return `offsets` (venue → offset) without those that may come from a recording instead of a wrong clock.

    An offset of a day or more is kept only if another venue has the same one.
    """
    return {
        venue: own
        for venue, own in offsets.items()
        if not own.may_be_history or any(own.is_like(one) for name, one in offsets.items() if name != venue)
    }


def cause(venue: str, offsets: Mapping[str, Offset]) -> str:
    """Return a sentence that says which clock or feed is wrong, if the trades of `venue` are off.

    `offsets` are those of all venues with enough trades, `venue` included. If another venue is off by the same time,
    this machine's clock is at fault.
    """
    own = offsets[venue]
    others = {name: one for name, one in offsets.items() if name != venue}
    like = sorted(name for name, one in others.items() if own.is_like(one))
    right = sorted(name for name, one in others.items() if not one.is_off)
    seconds, slow = f"{abs(own.seconds):.0f} s", own.seconds < 0
    found = f"trades of {_listed([venue, *like])} are received {seconds} {'before' if slow else 'after'} their own time"
    if like or (slow and not right):
        return f"{found}: this machine's clock is about {seconds} {'slow' if slow else 'fast'}; set it by NTP"
    if right:
        wrong = f"the clock of {venue} is about {seconds} fast" if slow else f"the feed of {venue} lags"
        return f"{found}, those of {_listed(right)} are not: {wrong}, and this machine's clock is right"
    return f"{found}: this machine's clock is about {seconds} fast (set it by NTP), or the feed of {venue} lags"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
