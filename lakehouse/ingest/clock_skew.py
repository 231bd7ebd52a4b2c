"""Check this machine's clock by the times of live trades, and report each change of its state once.

A state is: right, or off by some seconds with one cause. Each live trade costs an addition and a look at the monotonic
clock. The trades of ten seconds (a window) are judged when the next trade comes, so no thread is needed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lakehouse.market.clock_offset import FEWEST, SAME_SECONDS, Offset, cause, offset_of, without_history

#: Seconds of trades that are judged together: soon enough for a person, long enough for more than one frame.
WINDOW_SECONDS = 10.0
#: Most trades of a window that are judged, from its beginning: more would not make the result any surer.
MOST = 1_000
#: Seconds for which a venue's offset counts; after that its feed may have ended, and it says nothing of now.
FRESH_SECONDS = 120.0
#: An offset is reported again if it changes by this part of itself, so that a growing lag is not told in each window.
CHANGE_PART = 0.2


class VenueClock:
    """Computes the offset between this machine's clock and a venue's clock from the delays of the venue's live trades.

    All feeds and sockets of the venue share one object; thread-safe. `now` gives monotonic seconds.
    """

    def __init__(self, venue: str, clocks: Clocks, now: Callable[[], float]) -> None:
        self.offset: Offset | None = None  #: of the last window with enough trades; None before the first
        self.at = 0.0  #: when that window was judged, in monotonic seconds
        self._venue = venue
        self._clocks = clocks
        self._now = now
        self._delays: list[int] = []
        self._due = now() + WINDOW_SECONDS
        self._said: tuple[Offset, str] | None = None  #: what was told, and its cause without figures
        self._lock = threading.Lock()

    def saw(self, delay: int) -> str | None:
        """Take note of a live trade that was received `delay` µs after its own time.

        Returns a message for people if that ends a window in which the state of the clock changed, else None.
        """
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
        """Microseconds by which this machine's clock is slow against the venue's; 0 if it is right or fast."""
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
    """The `VenueClock` of each venue of one ingest; the offsets of several venues tell which clock is wrong.

    Thread-safe. `now` gives monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.is_simulated = False  #: True: trades that are a day old or more are a recording, even if two venues agree
        self._now = now
        self._venues: dict[str, VenueClock] = {}
        self._lock = threading.Lock()

    def of(self, venue: str) -> VenueClock:
        """Return the `VenueClock` of a venue, made on first use."""
        with self._lock:
            return self._venues.setdefault(venue, VenueClock(venue, self, self._now))

    def offsets(self, now: float | None = None) -> dict[str, Offset]:
        """Return venue → clock offset, for venues judged within the last `FRESH_SECONDS`; without played recordings.

        `now` is in monotonic seconds; None: the time now.
        """
        since = (self._now() if now is None else now) - FRESH_SECONDS
        with self._lock:
            venues = list(self._venues.items())
        found = {name: one.offset for name, one in venues if one.offset is not None and one.at >= since}
        if self.is_simulated:
            return {name: one for name, one in found.items() if not one.may_be_history}
        return without_history(found)
