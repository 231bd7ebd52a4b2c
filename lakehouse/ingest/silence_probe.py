"""Find losses and silent subscriptions of quiet symbols by the newest id in the venue's REST history.

If the latest trades of a symbol are lost, no later id shows the loss. So the probe looks at symbols without recent
trades: a look asks for the newest id of the venue's REST history. Ids above our highest one at two looks are lost. If
the history also moves on while the socket brings nothing, or ids are lost again and again, the subscription is silent,
however healthy the connection looks.

A symbol that is merely quiet costs one request every `QUIET_SECONDS`. Symbols under suspicion come first, then the
symbol that has waited longest, so that many symbols share a small budget fairly.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Protocol

from lakehouse.errors import LakehouseError, VenueError
from lakehouse.exchanges.history import UnknownSymbolError
from lakehouse.exchanges.venue import Venue
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.rest import RestClient

_log = logging.getLogger(__name__)

#: Seconds without a trade after which a symbol is looked at, and between two looks that found nothing.
QUIET_SECONDS = 30.0
#: Seconds from a new subscription to the first look: trades made while there was no connection are a loss that nothing
#: else may show soon.
FRESH_SECONDS = 5.0
#: Seconds between the two looks that make a loss certain: far more than a trade spends on its way to us.
AGAIN_SECONDS = 5.0
#: Most seconds that a look waits for running repairs; then it has its turn.
PATIENCE_SECONDS = 30.0
#: Seconds to the next look at a symbol after a look that failed.
FAILED_SECONDS = 30.0
#: Seconds to the next look at a symbol that trades on the socket but that REST does not know: an hour, because each
#: look makes a line in the log and a feed event.
UNLISTED_SECONDS = 3600.0
#: Seconds between two readings of how many trades the sockets received.
SAMPLE_SECONDS = 1.0


@dataclass(slots=True)
class _Symbol:
    """The state of one symbol. Times are monotonic seconds."""

    due: float
    received: int = 0  #: trades that came over a socket, at the last sample
    subscribed: float | None = None  #: since when the present connection is subscribed
    # Since the last trade or connection:
    base: int | None = None  #: REST's newest id at the first look
    newest: int | None = None  #: and at the last one
    mark: int | None = None  #: ours after the last one
    looked: float = 0.0  #: when that was
    losses: int = 0
    is_suspect: bool = False  #: the last look showed an id that we lack

    def forget(self) -> None:
        """Forget earlier looks: a trade or a connection has come, so they no longer prove anything."""
        self.base = self.mark = self.newest = None
        self.losses, self.is_suspect = 0, False


class QuietSymbols:
    """Decides when to look at a quiet symbol of one venue (ask REST for its newest id), and judges what a look shows.

    No I/O: callers pass the time, in monotonic seconds. Not thread-safe.
    """

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}

    def sample(self, symbol: str, received: int, subscribed: float | None, now: float) -> None:
        """Take note that `received` trades of a symbol have come so far; a new trade puts off the next look.

        `subscribed` is when the symbol was subscribed on the present connection (monotonic seconds); None if it is not.
        """
        known = self._symbols.get(symbol)
        if known is None:
            # Soon, whether or not the venue takes the subscription: what is traded from the first look on is wanted.
            known = self._symbols[symbol] = _Symbol(now + FRESH_SECONDS)
        if subscribed != known.subscribed:
            known.subscribed = subscribed
            known.forget()
            if subscribed is not None:
                known.due = min(known.due, subscribed + FRESH_SECONDS)
        if received != known.received:
            known.received = received
            known.forget()
            known.due = now + QUIET_SECONDS

    def due(self, now: float) -> tuple[str, float] | None:
        """Return (the symbol to look at next, the seconds since its look was due); None if no look is due."""
        due = [(not one.is_suspect, one.due, symbol) for symbol, one in self._symbols.items() if one.due <= now]
        if not due:
            return None
        _, since, symbol = min(due)
        return symbol, now - since

    def looked(self, symbol: str, newest: int | None, mark: int | None, is_loss: bool, now: float) -> bool:
        """Judge the result of a look at a symbol, and set the time of the next one.

        Returns True if the subscription is silent: ids are lost, and either REST's newest id has moved on or it is not
        the first loss. `newest` is the newest id that REST showed, None if it showed no trade; `mark` was our highest
        id before the look, None if none; `is_loss` is True if ids are now known to be lost.
        """
        known = self._symbols[symbol]
        if newest is None:  # the venue shows no trade at all
            known.due = now + QUIET_SECONDS
            return False
        before, known.newest = known.newest, newest
        was, known.looked = known.looked, now
        known.base = newest if known.base is None else known.base
        if known.mark is not None and mark is not None and mark > known.mark:
            is_loss = True  # heartbeats have shown it already, and moved our mark
        if mark is None:
            # Traded after we had subscribed, shown by the look before this one, and not received to this day.
            is_loss = before is not None and before > known.base
            mark = known.base
        had = mark if before is None or not is_loss else max(mark, before)
        known.mark = had
        known.is_suspect = newest > had
        known.due = now + (AGAIN_SECONDS if known.is_suspect else QUIET_SECONDS)
        known.losses += is_loss
        is_live = known.subscribed is not None and known.subscribed <= was
        # Ids that do not move on and one loss: some trades were lost, and the symbol may be quiet since.
        if before is None or not is_loss or not is_live or (newest == before and known.losses < 2):
            return False
        known.forget()
        return True

    def failed(self, symbol: str, due: float) -> None:
        """Take note that the REST request about a symbol failed; the next look is at `due` (monotonic seconds)."""
        self._symbols[symbol].due = due

    def remove(self, symbol: str) -> None:
        """Forget a symbol that is no longer wanted."""
        self._symbols.pop(symbol, None)


class Watched(Protocol):
    """The part of a feed that the silence probe uses (`watched.WatchedFeed`). Called by the repair's thread."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The symbols that the venue has not refused for good."""

    def received(self, symbol: str) -> int:
        """Return how many trades of the symbol the feed's sockets have brought so far, duplicates included."""

    def subscribed_since(self, symbol: str) -> float | None:
        """Return when the symbol was last subscribed on an open connection (monotonic seconds); None if it is not."""

    def mark(self, symbol: str) -> int | None:
        """Return the highest known trade id of the symbol; None if none is known."""

    def look(self, symbol: str, newest_id: int | None) -> bool:
        """Take the newest trade id that REST shows, None if it shows none; return True if ids are known to be lost."""

    def silent(self, symbol: str) -> None:
        """Take note that the symbol is subscribed and REST has new trades, but the socket brings none."""

    def unlisted(self, symbol: str, words: str) -> None:
        """Take note that REST does not list the symbol; `words` is the venue's message.

        The symbol is then no longer wanted, unless the socket brought its trades or the venue acknowledged its name.
        """


class SilenceProbe:
    """Asks the REST API of one venue for the newest trade ids of quiet symbols, and tells their feeds of losses.

    Used by the repair's thread.
    """

    def __init__(self, venue: Venue, client: RestClient, counters: VenueCounters) -> None:
        self._venue = venue
        self._client = client
        self._counters = counters
        self._quiet = QuietSymbols()
        self._watched: list[Watched] = []
        self._sample_due = 0.0

    def watch(self, feed: Watched) -> None:
        """Add a feed: its symbols without recent trades are then looked up in the venue's REST history."""
        self._watched.append(feed)

    def step(self, now: float, is_busy: bool) -> bool:
        """Read the feeds' counts of trades once a second; look at one symbol if a look is due and the budget allows it.

        While repairs are running (`is_busy`), a look waits `PATIENCE_SECONDS` at most. `now` is in monotonic seconds.
        Returns True if a symbol was looked at, even if the request failed, or was dropped as no longer wanted.
        """
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
            # An unforeseen reply costs its look and nothing else.
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
