"""Looks at the newest id that a venue's REST history shows, for symbols that have been quiet. `quiet` says which."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from lakehouse.errors import LakehouseError, VenueError
from lakehouse.exchanges.history import UnknownSymbolError
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.quiet import Quiet
from lakehouse.ingest.rest import RestClient

_log = logging.getLogger(__name__)

#: Seconds that a look gives way to repairs; then it has its turn.
PATIENCE_SECONDS = 30.0
#: Seconds to the next look at a symbol that could not be looked at.
FAILED_SECONDS = 30.0
#: Seconds to the next look at a symbol that trades on the socket and that REST does not know: an hour, for it is one
#: line and one event each time.
UNLISTED_SECONDS = 3600.0
#: Seconds between two samples of what the sockets received.
SAMPLE_SECONDS = 1.0


class Watched(Protocol):
    """A feed, as far as its quiet symbols go. Called by the repair's thread."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Symbols that the venue has not refused."""

    def received(self, symbol: str) -> int:
        """Trades that its sockets have brought so far."""

    def subscribed_since(self, symbol: str) -> float | None:
        """Monotonic seconds since when the present connection is subscribed; None where it is not."""

    def mark(self, symbol: str) -> int | None:
        """The highest id known."""

    def look(self, symbol: str, newest_id: int | None) -> bool:
        """Take the newest id that REST shows, if there is one. True if ids are now known to be lost."""

    def silent(self, symbol: str) -> None:
        """The subscription is there and brings nothing."""

    def unlisted(self, symbol: str, words: str) -> None:
        """REST lists no such symbol, in the venue's `words`. It is wanted no more, unless the socket brings it."""


class SilenceProbe:
    """The quiet symbols of one venue. Belongs to the repair's thread."""

    def __init__(self, venue: Venue, client: RestClient, counters: VenueCounters) -> None:
        self._venue = venue
        self._client = client
        self._counters = counters
        self._quiet = Quiet()
        self._watched: list[Watched] = []
        self._sample_due = 0.0

    def watch(self, feed: Watched) -> None:
        """Look at the quiet symbols of a feed as well."""
        self._watched.append(feed)

    def step(self, now: float, is_busy: bool) -> bool:
        """One look, if one is due and allowed; while repairs are `is_busy`, only one that has waited for long."""
        if now >= self._sample_due:
            self._sample_due = now + SAMPLE_SECONDS
            for feed in self._watched:
                for symbol in feed.wanted:
                    self._quiet.sample(symbol, feed.received(symbol), feed.subscribed_since(symbol), now)
        due = self._quiet.due(now)
        return due is not None and (not is_busy or due[1] > PATIENCE_SECONDS) and self._look(due[0])

    def _look(self, symbol: str) -> bool:
        feed = next((feed for feed in self._watched if symbol in feed.wanted), None)
        if feed is None:  # refused meanwhile
            self._quiet.remove(symbol)
            return True
        request = self._venue.newest(symbol)
        if self._client.wait(request.weight, is_look=True) > 0:
            return False
        try:
            newest = self._venue.newest_id(self._client.get(request, is_look=True))
        except VenueError as error:
            self._client.refused(error)
            self._quiet.failed(symbol, time.monotonic() + FAILED_SECONDS)
            return True
        except UnknownSymbolError as error:
            self._client.accepted()
            self._quiet.failed(symbol, time.monotonic() + UNLISTED_SECONDS)
            feed.unlisted(symbol, error.words)
            return True
        except LakehouseError as error:
            _log.warning("no look at %s %s: %s", self._venue.name, symbol, error)
            self._quiet.failed(symbol, time.monotonic() + FAILED_SECONDS)
            return True
        except Exception:
            # A reply that nobody thought of costs its look and nothing else.
            _log.warning("no look at %s %s", self._venue.name, symbol, exc_info=True)
            self._quiet.failed(symbol, time.monotonic() + FAILED_SECONDS)
            return True
        self._client.accepted()
        now = time.monotonic()
        # Again, for a trade may have come while the request was under way.
        self._quiet.sample(symbol, feed.received(symbol), feed.subscribed_since(symbol), now)
        mark = feed.mark(symbol)
        is_loss = feed.look(symbol, newest)
        if self._quiet.looked(symbol, newest, mark, is_loss, now):
            feed.silent(symbol)
        return True
