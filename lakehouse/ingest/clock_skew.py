"""Watch this machine's clock while trades come in: report once if it begins to be off, changes, or is right again.

Costs a live trade an addition and a look at the monotonic clock, which no step of the wall clock moves. A window is
judged when a trade comes after its end, so no thread is needed; a feed that brings nothing has nothing to say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lakehouse.market.clock_offset import FEWEST, SAME_SECONDS, Offset, cause, offset_of, without_history

#: Seconds of a window: soon enough for a person, long enough that one frame with many trades is not all of it.
WINDOW_SECONDS = 10.0
#: Trades of a window that are looked at, from its beginning: more would not make the word any surer.
MOST = 1_000
#: Seconds for which the word of another venue counts: that of one whose feed has ended says nothing of now.
FRESH_SECONDS = 120.0
#: A change of an offset is told from this part of it on, so that a lag that grows does not tell of each window.
CHANGE_PART = 0.2


class VenueClock:
    """The offset between this machine's clock and one venue's. All feeds and sockets of the venue share it."""

    def __init__(self, venue: str, clocks: Clocks, now: Callable[[], float]) -> None:
        self.offset: Offset | None = None  #: of the last window that had a word
        self.at = 0.0  #: monotonic seconds of that word
        self._venue = venue
        self._clocks = clocks
        self._now = now
        self._delays: list[int] = []
        self._due = now() + WINDOW_SECONDS
        self._said: tuple[Offset, str] | None = None  #: what was told, and its cause without figures
        self._lock = threading.Lock()

    def saw(self, delay: int) -> str | None:
        """Take a live trade, received `delay` µs after its own time. Return a message if the clock's state changed."""
        delays = self._delays
        if len(delays) < MOST:
            delays.append(delay)
        now = self._now()
        if now < self._due or len(delays) < FEWEST:
            return None
        with self._lock:
            if now < self._due:  # another socket of the venue was first
                return None
            self._delays, self._due = [], now + WINDOW_SECONDS
            return self._judged(offset_of(delays), now)

    @property
    def ahead(self) -> int:
        """Microseconds to add to this machine's time if its clock is slow; 0 if it is right or fast."""
        offset = self.offset
        return round(-offset.seconds * 1_000_000) if offset and offset.is_off and offset.seconds < 0 else 0

    def _judged(self, offset: Offset | None, now: float) -> str | None:
        if offset is None:
            return None
        self.offset, self.at = offset, now
        known = self._clocks.offsets(now)
        if self._venue not in known:  # history that is played
            return None
        if not offset.is_off:
            told, self._said = self._said, None
            return f"the times of {self._venue} and this machine's clock agree again" if told else None
        words = cause(self._venue, known)
        kind = "".join(letter for letter in words.partition(": ")[2] if not letter.isdigit())
        if self._said is not None:
            before, said = self._said
            most = max(SAME_SECONDS, CHANGE_PART * abs(before.seconds))
            if said == kind and abs(offset.seconds - before.seconds) <= most:
                return None
        self._said = (offset, kind)
        return words


class Clocks:
    """The clocks of all venues of one ingest, which explain one another. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.is_simulated = False  #: trades of a day ago and more are a recording, whichever venues agree
        self._now = now
        self._venues: dict[str, VenueClock] = {}
        self._lock = threading.Lock()

    def of(self, venue: str) -> VenueClock:
        """Return the clock of a venue; it is made on first use."""
        with self._lock:
            return self._venues.setdefault(venue, VenueClock(venue, self, self._now))

    def offsets(self, now: float | None = None) -> dict[str, Offset]:
        """Return venue → offset for the venues judged within the last `FRESH_SECONDS`, recordings left out.

        `now` is in monotonic seconds.
        """
        since = (self._now() if now is None else now) - FRESH_SECONDS
        with self._lock:
            venues = list(self._venues.items())
        found = {name: one.offset for name, one in venues if one.offset is not None and one.at >= since}
        if self.is_simulated:
            return {name: one for name, one in found.items() if not one.may_be_history}
        return without_history(found)
