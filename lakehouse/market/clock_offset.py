"""Compare this machine's clock with the venues' clocks, by when trades happened and when they were received. Pure.

A trade cannot be received before it happened, and is received within a second or so. So if three quarters of a venue's
trades come seconds before their own time, this machine's clock is slow; a few with a wrong time of the venue's prove
nothing. Trades that come late say less: a feed that lags looks like a clock that is fast, unless two venues come late
by the same time.
Limit: a clock that is off by less than the bounds below goes unnoticed, and does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Seconds before its own time at which a trade is received: more than a venue's clock or one that is set by NTP is off.
SLOW_SECONDS = 5.0
#: Seconds after it: more than a busy machine or a venue under load lags, as a rule.
LATE_SECONDS = 30.0
#: Seconds after which a trade may be history that somebody plays (a recording), and says something of a clock only if
#: the trades of another venue are as late.
HISTORY_SECONDS = 86_400.0
#: Trades that are needed for a word: of fewer, three quarters would be two or three, which may share a wrong time.
FEWEST = 10
#: Seconds by which two venues may differ and still show the same clock: their ways to us differ by less.
SAME_SECONDS = 5.0


@dataclass(frozen=True)
class Offset:
    """How much later a venue's trades came, by this machine's clock, than they happened; negative if it is slow."""

    seconds: float  #: the median
    is_off: bool  #: three quarters of the trades say so
    may_be_history: bool = False  #: so late that one venue alone does not tell a fast clock from a recording

    def is_like(self, other: Offset) -> bool:
        """Return True if both are off by the same time (within 5 s), so that this machine's clock explains both."""
        return self.is_off and other.is_off and abs(self.seconds - other.seconds) <= SAME_SECONDS


def offset_of(delays: Sequence[int]) -> Offset | None:
    """Return a venue's offset from the delays of its live trades: received minus happened, in microseconds.

    None if there are fewer than `FEWEST`.
    """
    if len(delays) < FEWEST:
        return None
    ordered = sorted(delays)
    quarter, median, last = (ordered[len(ordered) * part // 4] / 1_000_000 for part in (1, 2, 3))
    return Offset(median, last < -SLOW_SECONDS or quarter > LATE_SECONDS, quarter > HISTORY_SECONDS)


def without_history(offsets: Mapping[str, Offset]) -> dict[str, Offset]:
    """Return the offsets that tell something of a clock: one of a day or more counts only if two venues agree on it."""
    return {
        venue: own
        for venue, own in offsets.items()
        if not own.may_be_history or any(own.is_like(one) for name, one in offsets.items() if name != venue)
    }


def cause(venue: str, offsets: Mapping[str, Offset]) -> str:
    """Say in words which clock or feed explains that `venue` is off; `offsets` are those of all known venues."""
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
