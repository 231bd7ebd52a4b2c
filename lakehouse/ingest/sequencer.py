"""Hand the trades of one feed to Kafka in order, and find gaps in their ids. Shared by all sockets of the feed.

Guarantee: one symbol's trades are handed to Kafka in the order in which they are observed, whichever socket brings
them; a gap is announced once and at once, as a `gap_opened` event and as an order to the repair. Limit: while two
sockets overlap, a gap is announced a moment later, because the other socket may fill it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.exchanges.model import FeedEvent, Trade
from lakehouse.id_ranges import IdRange
from lakehouse.ingest.backfill_queue import BackfillOrder
from lakehouse.ingest.id_tracker import Gap, IdTracker, Kind
from lakehouse.ingest.metrics import Counters, SymbolCounters
from lakehouse.ingest.producer import KafkaSink
from lakehouse.ingest.resume import Resume
from lakehouse.tables import FeedEventKind

_log = logging.getLogger(__name__)

#: While two sockets overlap (a rotation), a gap is announced only if it is still open after so many seconds, because
#: one of them may lag behind the other.
OVERLAP_GRACE_SECONDS = 2.0
#: Microseconds. An event time further ahead of our clock than this is not used to find a trade by its time; the time
#: that the clock is known to be slow by is added.
CREDIBLE_AHEAD = 60_000_000


class SymbolSequence:
    """The trade ids and counters of one (venue, symbol), with the lock of both; also the repair's `Target`."""

    __slots__ = ("counters", "ids", "lock", "symbol", "ts_mark")

    def __init__(self, symbol: str, counters: SymbolCounters) -> None:
        self.symbol = symbol
        self.counters = counters
        self.ids = IdTracker()
        self.ts_mark: int | None = None  #: event time (µs) of the trade with the highest id; None before the first
        # Held while a trade is handed over, so that Kafka's order is the ids' order: a mark that is read back from
        # Kafka must not stand above a trade that died on its way.
        self.lock = threading.Lock()

    # Called by the repair.

    def still_missing(self, first: int, last: int) -> list[IdRange]:
        """Return the ranges within `first`..`last` (inclusive) that have not arrived, over a socket or a repair."""
        with self.lock:
            return self.ids.missing_within(first, last)

    def delivered(self, first: int, last: int) -> None:
        """Take note that Kafka has acknowledged the repaired trades `first`..`last`: they are no longer missing."""
        with self.lock:
            self.counters.repaired += self.ids.close(first, last)
            self.counters.open_ids = self.ids.open_ids

    def unavailable(self, first: int, last: int) -> None:
        """Take note that the venue lacks the trades `first`..`last`: they are no longer counted as missing."""
        with self.lock:
            self.counters.unavailable += self.ids.close(first, last)
            self.counters.open_ids = self.ids.open_ids


@dataclass(frozen=True, slots=True)
class _Held:
    """A gap that the other socket may still fill."""

    due: float
    sequence: SymbolSequence
    gap: Gap
    detail: str
    connection_id: str
    ts_before: int | None
    ts_after: int | None


class Sequencer:
    """Hands the trades of one feed's symbols to Kafka in order, and announces gaps in their ids. Thread-safe.

    `order` is called with each gap to repair.
    """

    def __init__(self, venue: str, sink: KafkaSink, counters: Counters, order: Callable[[BackfillOrder], None]) -> None:
        self.overlapping = False  #: True while two sockets deliver, during a rotation; the feed sets it
        self._venue = venue
        self._sink = sink
        self._counters = counters
        self._clock = counters.clocks.of(venue)
        self._order = order
        self._sequences: dict[str, SymbolSequence] = {}
        self._lock = threading.Lock()  # of new sequences and held gaps
        self._held: list[_Held] = []

    def of(self, symbol: str) -> SymbolSequence:
        """Return the `SymbolSequence` of a canonical symbol, made on first use."""
        sequence = self._sequences.get(symbol)
        if sequence is None:
            with self._lock:
                sequence = self._sequences.setdefault(
                    symbol, SymbolSequence(symbol, self._counters.symbol(self._venue, symbol))
                )
        return sequence

    def resume(self, symbol: str, resume: Resume, connection_id: str) -> None:
        """Continue a symbol's ids from the state of an earlier process, and announce the gaps that it left open.

        Call it before the symbol's first trade; raises ValueError after that. `connection_id` goes into the events.
        """
        sequence = self.of(symbol)
        with sequence.lock:
            sequence.ts_mark = resume.ts_event
            sequence.ids.resume_at(resume.trade_id, ((gap.first_id, gap.last_id) for gap in resume.gaps))
            for left in resume.gaps:
                gap = Gap(left.first_id, left.last_id)
                self._announce(
                    sequence, gap, "left open by an earlier run", connection_id, left.ts_before, left.ts_after
                )

    def trade(self, trade: Trade, connection_id: str) -> None:
        """Take a trade from a socket: check its id, announce a gap if ids were skipped, and send the trade to Kafka.

        A duplicate is sent, too. Blocks while the producer's queue is full; raises like `KafkaSink`.
        """
        sequence = self._sequences.get(trade.symbol) or self.of(trade.symbol)
        with sequence.lock:
            found = sequence.ids.observe(trade.trade_id)
            if found.kind is Kind.NEXT:
                sequence.ts_mark = trade.ts_event
            else:
                self._not_next(sequence, trade, found.kind, found.gap, connection_id)
            # Duplicates go on as well: the table deduplicates by id, and it must see where the same id has other
            # content.
            self._sink.trade(trade, sequence.counters)
        # A snapshot, or `last_match`, is old when it is sent.
        if trade.source == "live" and (words := self._clock.saw(trade.ts_ingest - trade.ts_event)):
            _log.warning("%s: %s", self._venue, words)
            self.event("clock_skew", connection_id, detail=words)

    def heartbeat(self, symbol: str, last_trade_id: int, connection_id: str) -> None:
        """Take the newest trade id in a venue's heartbeat; announce the gap if ids up to it are certainly missing."""
        sequence = self.of(symbol)
        with sequence.lock:
            gap = sequence.ids.heartbeat(last_trade_id)
            if gap is not None:
                detail = "named by two heartbeats and not received"
                self._opened(sequence, gap, detail, connection_id, sequence.ts_mark, None)

    def look(self, symbol: str, newest_id: int, connection_id: str) -> bool:
        """Take the newest trade id that the venue's REST history shows; announce the gap if ids are certainly missing.

        Returns True if a gap was found. Called by the silence probe.
        """
        sequence = self.of(symbol)
        with sequence.lock:
            gap = sequence.ids.look(newest_id)
            if gap is not None:
                detail = "shown twice by the REST history and not received"
                self._opened(sequence, gap, detail, connection_id, sequence.ts_mark, None)
        return gap is not None

    def reconnected(self, symbols: tuple[str, ...]) -> None:
        """Take note that a new connection begins for these symbols, and forget the old one's last heartbeats."""
        for symbol in symbols:
            sequence = self.of(symbol)
            with sequence.lock:
                sequence.ids.reconnected()

    @property
    def is_holding(self) -> bool:
        """True if a gap is not announced yet, because the other of two overlapping sockets may still fill it."""
        return bool(self._held)

    def settle(self, is_over: bool = False) -> None:
        """Announce held gaps that are still open: after OVERLAP_GRACE_SECONDS, or all now if the overlap `is_over`.

        Sockets call it often; it costs next to nothing if no gap is held.
        """
        if not self._held:
            return
        with self._lock:
            held, self._held = self._held, []
        now, waiting = time.monotonic(), []
        for one in held:
            with one.sequence.lock:
                left = one.sequence.ids.missing_within(one.gap.first_id, one.gap.last_id)
                if left and not is_over and now < one.due:
                    waiting.append(one)
                    continue
                for part in left:
                    self._announce(one.sequence, Gap(*part), one.detail, one.connection_id, one.ts_before, one.ts_after)
        if waiting:
            with self._lock:
                self._held += waiting

    def event(
        self,
        kind: FeedEventKind,
        connection_id: str,
        symbol: str | None = None,
        gap: Gap | None = None,
        detail: str = "",
    ) -> None:
        """Send a feed event of this venue to Kafka, with the time now; `symbol` None: about the whole connection."""
        first, last = (gap.first_id, gap.last_id) if gap else (None, None)
        now = time.time_ns() // 1000
        self._sink.event(FeedEvent(self._venue, kind, now, connection_id, symbol, first, last, detail))

    # With the sequence's lock held.

    def _not_next(
        self, sequence: SymbolSequence, trade: Trade, kind: Kind, gap: Gap | None, connection_id: str
    ) -> None:
        if kind is Kind.DUPLICATE:
            sequence.counters.duplicates += 1
            return
        ts_before: int | None = sequence.ts_mark
        ts_after: int | None = trade.ts_event
        if kind is Kind.LATE:
            sequence.counters.late += 1
            ts_before, ts_after = trade.ts_event, None
        else:
            sequence.ts_mark = trade.ts_event
        sequence.counters.open_ids = sequence.ids.open_ids
        if gap is not None:
            detail = f"seen with trade {trade.trade_id}"
            self._opened(sequence, gap, detail, connection_id, ts_before, ts_after)

    def _opened(
        self,
        sequence: SymbolSequence,
        gap: Gap,
        detail: str,
        connection_id: str,
        ts_before: int | None,
        ts_after: int | None,
    ) -> None:
        sequence.counters.open_ids = sequence.ids.open_ids
        if not self.overlapping:
            self._announce(sequence, gap, detail, connection_id, ts_before, ts_after)
            return
        due = time.monotonic() + OVERLAP_GRACE_SECONDS
        with self._lock:
            self._held.append(_Held(due, sequence, gap, detail, connection_id, ts_before, ts_after))

    def _announce(
        self,
        sequence: SymbolSequence,
        gap: Gap,
        detail: str,
        connection_id: str,
        ts_before: int | None,
        ts_after: int | None,
    ) -> None:
        sequence.counters.gaps += 1
        sequence.counters.missing += len(gap)
        sequence.counters.open_ids = sequence.ids.open_ids
        self.event("gap_opened", connection_id, sequence.symbol, gap, detail)
        times = (self._credible(ts_before), self._credible(ts_after))
        self._order(BackfillOrder(sequence.symbol, sequence, gap.first_id, gap.last_id, *times))

    def _credible(self, ts_event: int | None) -> int | None:
        latest = time.time_ns() // 1000 + self._clock.ahead + CREDIBLE_AHEAD
        return None if ts_event is None or ts_event > latest else ts_event
