"""Fetch missing trades from the venue's REST history and send them to the same topic, with `source=repair`.

One thread per venue, for all of its symbols. Live trades never wait for it: a page goes to Kafka in slices.

Guarantee: a `gap_repaired` event has ids that Kafka has acknowledged, or that a socket brought late after all; a
`gap_unavailable` event has ids that the venue lacks now, and the ledger of Silver counts these tries. An id is asked
for again, with growing pauses, until it is in such an event or its backfill is given up: after `GIVE_UP_SECONDS`
without a trade of it, or a reply that ends it for good. Limit: ids left then, or at the end, stay open in the ledger;
the job `repair` (`repair.fetch`), which also asks again for unavailable ids, or the next start (`resume`) fetches them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.history import Page
from lakehouse.exchanges.model import FeedEvent
from lakehouse.exchanges.venue import Venue
from lakehouse.id_ranges import IdRange, IdRanges
from lakehouse.ingest.backfill_queue import Backfill, BackfillOrder, BackfillQueue, Sent
from lakehouse.ingest.backoff import delays
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError
from lakehouse.ingest.rest import RestClient
from lakehouse.ingest.silence_probe import SilenceProbe, Watched
from lakehouse.tables import FeedEventKind

_log = logging.getLogger(__name__)

#: Seconds from an order to its first request: REST lags behind the socket, a late trade fills its gap itself, and the
#: small gaps of a bad moment are asked for together.
SETTLE_SECONDS = 1.0
#: Seconds of the first and of the longest pause of a backfill that failed, or whose last ids REST does not show yet.
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
#: A backfill is given up after so many seconds without one of its trades: a venue's maintenance lasts minutes.
GIVE_UP_SECONDS = 3600.0
#: Trades handed to Kafka in one go, and the seconds of the pause after it: a page of 1,000 takes some 15 ms, and no
#: socket must wait for Python's lock for so long.
SLICE_TRADES = 50
SLICE_PAUSE_SECONDS = 0.001
#: Most repaired trades without Kafka's acknowledgement: a twentieth of the producer's queue; live trades get the rest.
MOST_IN_FLIGHT = 5_000
#: Longest sleep of the thread, in seconds.
IDLE_SECONDS = 0.25


class GapRepair:
    """A thread that repairs one venue's gaps over REST, with the part `share` (0 to 1) of the venue's REST budget.

    It also runs the `SilenceProbe` of the venue's quiet symbols. `base`: root address of a simulator, None: live.
    """

    def __init__(
        self,
        venue: Venue,
        base: str | None,
        sink: KafkaSink,
        counters: Counters,
        share: float,
        rng: random.Random | None = None,
    ) -> None:
        self.venue = venue
        self.failure: BaseException | None = None  #: the error that ended the thread; None if it runs or was stopped
        self.connection_id = f"{venue.name}-repair-{uuid.uuid4().hex[:12]}"
        self._sink = sink
        self._counters = counters
        self._venue_counters = counters.venue(venue.name)
        self._rng = rng or random.Random()
        self._client = RestClient(venue, base, share, self._venue_counters, self._rng)
        self._orders: deque[BackfillOrder] = deque()
        self._queue = BackfillQueue()
        self._probe = SilenceProbe(venue, self._client, self._venue_counters)
        self._busy = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"repair-{venue.name}", daemon=True)

    # Life of the thread.

    def watch(self, feed: Watched) -> None:
        """Let the silence probe watch the quiet symbols of a feed. Call before `start`."""
        self._probe.watch(feed)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end. Returns at once; `join` waits."""
        self._stop.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the thread to end. Return False if it has not: it awaits a reply."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def order(self, order: BackfillOrder) -> None:
        """Take an order to repair a gap, for the thread to work on. Returns at once; any thread may call it."""
        self._orders.append(order)
        self._wake.set()

    @property
    def is_idle(self) -> bool:
        """True if no order is left: each gap was repaired, found unavailable, or given up."""
        return not self._orders and not self._busy

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.clear()
                self._take_orders()
                self._settle()
                pause = self._step()
                if pause > 0:
                    self._wake.wait(min(pause, IDLE_SECONDS))
            self._tell_unfinished()
        except QueueBlockedError:
            pass  # stopping, with a broker that is away; the sink counts what it could not take
        except BaseException as error:
            self.failure = error
            _log.exception("repair of %s ended", self.venue.name)
        finally:
            self._client.close()

    def _take_orders(self) -> None:
        now = time.monotonic()
        while self._orders:
            self._busy = len(self._queue) + 1  # before the order is out of sight
            self._queue.add(self._orders.popleft(), now + SETTLE_SECONDS)
        self._busy = len(self._queue)

    def _step(self) -> float:
        """One request, if one is due and allowed. Returns the seconds until there may be something to do."""
        now = time.monotonic()
        backfill = self._queue.next(now) if self._queue.in_flight() < MOST_IN_FLIGHT else None
        if self._probe.step(now, is_busy=backfill is not None):
            return 0.0
        if backfill is None:
            due = self._queue.next_due()
            return IDLE_SECONDS if due is None else max(due - now, 0.01)
        return self._page(backfill)

    # Backfills.

    def _page(self, backfill: Backfill) -> float:
        """Ask for the next page of a backfill, if that is allowed now; else return the seconds until it is."""
        try:
            if backfill.history is None and not self._begin(backfill):
                return 0.0
            assert backfill.history is not None
            request = backfill.history.request()
            if request is None:
                backfill.is_read = True
                return 0.0
            wait = self._client.wait(request.weight)
            if wait > 0:
                return wait
            page = backfill.history.take(self._client.get(request))
        except VenueError as error:
            self._client.refused(error)
            self._later(backfill, str(error))
        except TerminalError as error:
            backfill.is_refused = True
            self._give_up(backfill, str(error))
        except Exception as error:
            # An unforeseen reply ends its backfill, not the feed.
            _log.exception("repair of %s %s failed", self.venue.name, backfill.symbol)
            self._give_up(backfill, repr(error))
        else:
            self._client.accepted()
            backfill.pages += 1
            if page.trades:
                backfill.pauses = None  # the pauses of a history that shows nothing go on growing
            self._send(backfill, page)
        return 0.0

    def _begin(self, backfill: Backfill) -> bool:
        """Begin with the ids that are still missing. False if none are."""
        if backfill.progress_at is None:
            backfill.progress_at = time.monotonic()
        missing = [part for first, last in backfill.wanted for part in backfill.target.still_missing(first, last)]
        if not missing:
            backfill.is_read = True
            return False
        first, last = missing[0][0], missing[-1][1]
        backfill.history = self.venue.history(backfill.symbol, first, last, backfill.ts_before, backfill.ts_after)
        return True

    def _send(self, backfill: Backfill, page: Page) -> None:
        """Hand the trades of a page to Kafka, slice by slice, without those that have arrived meanwhile."""
        for rejected in page.rejected:
            self._venue_counters.reject(rejected.reason)
            self._sink.rejected(rejected)
        if not page.trades or self._stop.is_set():
            return
        missing = IdRanges(backfill.target.still_missing(page.trades[0].trade_id, page.trades[-1].trade_id))
        trades = [trade for trade in page.trades if trade.trade_id in missing]
        if not trades:
            return
        counters = self._counters.symbol(self.venue.name, backfill.symbol)
        sent = Sent(IdRanges((trade.trade_id, trade.trade_id) for trade in trades), len(trades))
        backfill.sent.append(sent)
        if backfill.newest is None or trades[-1].trade_id > backfill.newest[0]:
            backfill.newest = trades[-1].trade_id, trades[-1].ts_event

        def acknowledged() -> None:
            sent.left -= 1
            if not sent.left:
                self._wake.set()

        for start in range(0, len(trades), SLICE_TRADES):
            if start and self._stop.wait(SLICE_PAUSE_SECONDS):
                return
            for trade in trades[start : start + SLICE_TRADES]:
                self._sink.repair(trade, counters, acknowledged)

    def _settle(self) -> None:
        """Take note of what Kafka has acknowledged, and end the backfills that are complete."""
        now = time.monotonic()
        for backfill in self._queue:
            while backfill.sent and not backfill.sent[0].left:
                for first, last in backfill.sent.popleft().ids:
                    backfill.target.delivered(first, last)
                    backfill.delivered.add(first, last)
                backfill.progress_at = now
            if backfill.is_read and not backfill.sent:
                self._leave(backfill) if backfill.given_up else self._end(backfill)

    def _end(self, backfill: Backfill) -> None:
        """A history has been read to its end: tell what came of it, and ask again for what REST does not show yet."""
        if backfill.history is not None:
            self._tell_unavailable(backfill, backfill.history.unavailable, "the venue's REST history lacks them")
        left = IdRanges(part for first, last in backfill.wanted for part in backfill.target.still_missing(first, last))
        for first, last in backfill.wanted:
            for part in left.missing(first, last):
                self._event("gap_repaired", backfill.symbol, part, "from the venue's REST history")
        if not left:
            self._queue.remove(backfill)
            return
        backfill.wanted, backfill.delivered, backfill.history, backfill.is_read = left, IdRanges(), None, False
        if backfill.newest is not None and backfill.newest[0] < backfill.span()[0]:
            backfill.ts_before = backfill.newest[1]
        self._later(backfill, "the REST history does not show it")

    def _later(self, backfill: Backfill, reason: str) -> None:
        """Ask again after a pause; give up if that has gone on for too long."""
        now = time.monotonic()
        if backfill.pauses is None:
            backfill.pauses = delays(self._rng, PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        backfill.due = now + next(backfill.pauses)
        if backfill.progress_at is not None and now - backfill.progress_at > GIVE_UP_SECONDS:
            self._give_up(backfill, f"nothing of it came for {GIVE_UP_SECONDS:g} s ({reason})")

    def _give_up(self, backfill: Backfill, reason: str) -> None:
        """Ask no more; what Kafka still has to acknowledge is waited for."""
        backfill.is_read, backfill.given_up = True, reason

    def _leave(self, backfill: Backfill) -> None:
        """Leave the gap open, or unavailable if it was so before and the venue now refuses to answer."""
        self._tell_delivered(backfill)
        self._queue.remove(backfill)
        if backfill.again and backfill.is_refused:
            self._tell_unavailable(backfill, IdRanges(backfill.wanted), backfill.given_up)
            return
        first, last = backfill.span()
        _log.warning(
            "gap %d..%d of %s %s stays open: %s", first, last, self.venue.name, backfill.symbol, backfill.given_up
        )
        self._event("venue_error", backfill.symbol, None, f"gap {first}..{last} stays open: {backfill.given_up}")

    def _tell_unavailable(self, backfill: Backfill, gone: IdRanges, detail: str) -> None:
        for first, last in gone:
            for wanted in backfill.wanted.within(first, last):
                for part in backfill.target.still_missing(*wanted):
                    backfill.target.unavailable(*part)
                    backfill.wanted.remove(*part)
                    self._event("gap_unavailable", backfill.symbol, part, detail)

    def _tell_unfinished(self) -> None:
        """Tell at the end which trades arrived, so that the next process does not ask for them again."""
        self._settle()
        for backfill in self._queue:
            self._tell_delivered(backfill)

    def _tell_delivered(self, backfill: Backfill) -> None:
        for part in backfill.delivered:
            self._event("gap_repaired", backfill.symbol, part, "part of a gap")

    def _event(self, kind: FeedEventKind, symbol: str, part: IdRange | None, detail: str) -> None:
        first, last = part or (None, None)
        now = time.time_ns() // 1000
        self._sink.event(FeedEvent(self.venue.name, kind, now, self.connection_id, symbol, first, last, detail))
