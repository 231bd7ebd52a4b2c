"""Find the time of a trade id in a history that can be asked only by time. No I/O.

A probe shows the ids of the page that begins at a time. If the page lies above the wanted id, the next probe is
earlier, by growing steps; if it lies below, later. Once there is a probe on either side, the span between is halved.
"""

from __future__ import annotations

SECOND = 1_000_000_000
#: Factor by which each step is longer than the one before, beginning with a second: the eleventh is 34 years.
GROWTH = 8
#: Nanoseconds. The search ends once the wanted id lies within a span this short; the rest is fetched page by page.
SHORTEST_SPAN = SECOND // 100


class Search:
    """Search for the time (ns since the epoch) of a wanted trade id, by probes: pages asked for from the time `at` on.

    After each page the caller calls `too_late` or `too_early`, which set the next `at`; once `ended` is True, the id is
    reached page by page from `at`. No probe is later than `latest`; `beyond` is a time known to be after the id's, None
    if there is none. Ends after 90 probes at most: the steps reach any time within 22 probes, and a span of 2^63 ns can
    be halved 40 times.
    """

    def __init__(self, at: int, latest: int, beyond: int | None = None) -> None:
        self._latest = latest
        self._step = SECOND
        self._below: int | None = None
        self.at = max(0, min(at, latest))
        #: `beyond` is a time at which the wanted id was over, if one is known.
        self._above = beyond if beyond is not None and beyond > self.at else None
        self.ended = False

    def too_late(self) -> None:
        """Take note that the page from the time `at` begins above the wanted id or is empty; choose an earlier `at`."""
        self._above = self.at
        if self._below is not None:
            self._halve(self._below, self._above)
        elif self.at == 0:
            self.ended = True
        else:
            self._move(self.at - self._step)

    def too_early(self, page_end: int) -> None:
        """Take note that the page from `at` ends, at `page_end` (ns), below the wanted id; choose a later `at`."""
        # More trades may share the page's last timestamp, so just before it.
        self._below = max(self.at, min(page_end - 1, self._latest))
        if self._above is not None:
            self._halve(self._below, self._above)
        elif self._below >= self._latest:
            self.at, self.ended = self._below, True
        else:
            self._move(self._below + self._step)

    def _move(self, to: int) -> None:
        self.at = max(0, min(to, self._latest))
        self._step *= GROWTH

    def _halve(self, below: int, above: int) -> None:
        if above - below <= SHORTEST_SPAN:
            self.at, self.ended = below, True
        else:
            self.at = (below + above) // 2
