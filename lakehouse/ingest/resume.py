"""Read the state in which an earlier ingest ended: the mark (highest trade id) of each (venue, symbol), and open gaps.

The state comes from two places that outlive any machine: the ledger of Silver (if there is a lake), and the tail of the
Kafka topic, which is ahead of the ledger. Nothing is kept in a local file.

Guarantee: each id below a mark is in Kafka, or among the gaps: trades of a symbol stand in one partition, in the order
of their ids, and a crash loses only the newest of them. A mark that is too low only costs requests for trades that are
there already.
Limit: a symbol that the ledger does not know and that is not among the last `MOST_MESSAGES` of its partition begins
anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange, OffsetRangeReader
from lakehouse.broker.topics import end_offsets, first_offsets
from lakehouse.continuity import gaps
from lakehouse.continuity.gaps import LedgerGap, Mark
from lakehouse.id_ranges import IdRanges
from lakehouse.ingest.id_tracker import IdTracker
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings

_log = logging.getLogger(__name__)

#: Messages that are read at the end of each partition in any case: 80 s of 1,000 trades/s in four partitions, a tenth
#: of a second to read. They show the gaps that a process had just opened when it was killed during a repair.
FIRST_MESSAGES = 20_000
#: Most messages read back per partition, twice as many each time, in search of a symbol without a mark; takes seconds.
MOST_MESSAGES = 200_000
#: Feed events read back for the gaps that were left open. A reconnect makes some ten events, a gap two.
MOST_EVENTS = 20_000
#: Seconds in which the broker must answer with the offsets of the topics.
READ_SECONDS = 30.0

_UNREADABLE = (msgspec.MsgspecError, UnicodeError)


@dataclass(frozen=True)
class Resume:
    """The state from which ingest continues one (venue, symbol): its highest trade id, and the gaps left open below it.

    `ts_event` is that trade's event time (µs), None if unknown.
    """

    trade_id: int
    ts_event: int | None = None
    gaps: tuple[LedgerGap, ...] = ()


class _Trade(msgspec.Struct):
    venue: str
    symbol: str
    trade_id: int
    ts_event: int
    source: str = ""


class _Event(msgspec.Struct):
    event: str
    venue: str = ""
    symbol: str | None = None
    first_id: int | None = None
    last_id: int | None = None


_read_trade = msgspec.json.Decoder(_Trade).decode
_read_event = msgspec.json.Decoder(_Event).decode


def read(settings: Settings, wanted: Collection[MarketKey]) -> dict[MarketKey, Resume]:
    """Return (venue, symbol) → state to continue from, for each of `wanted` that the ledger or Kafka's tail knows.

    Called at the start of ingest. Raises BrokerUnavailableError if the end of Kafka's topics cannot be read: without it
    the trades missed since the earlier ingest would go unnoticed.
    """
    kept = {key: mark for key, mark in _ledger(settings).items() if key in wanted}
    bootstrap, trades, events = settings.bootstrap(), settings.topic_trades, settings.topic_feed_events
    with contextlib.closing(OffsetRangeReader(bootstrap)) as reader:
        topics = _Topics(bootstrap, reader, (trades, events))
        tail = _Tail(wanted)
        tail.read(topics, trades, without_mark=frozenset(wanted) - kept.keys())
        gaps = _Gaps(wanted)
        topics.hand_over(topics.newest(events, MOST_EVENTS), gaps.take)
    found: dict[MarketKey, Resume] = {}
    for key in wanted:
        resume = _merged(key, kept.get(key), tail, gaps)
        if resume is not None:
            found[key] = resume
    return found


def _merged(key: MarketKey, kept: Mark | None, tail: _Tail, gaps: _Gaps) -> Resume | None:
    marks = [mark for mark in (kept, tail.marks.get(key)) if mark is not None]
    left = IdRanges([*gaps.open.get(key, ()), *tail.gaps(key)])
    for first, last in gaps.unavailable.get(key, ()):
        left.remove(first, last)
    mark = max(marks, key=lambda one: one.trade_id, default=None)
    if mark is None and left.highest is None:
        return None
    if mark is None or (left.highest is not None and left.highest > mark.trade_id):
        # The end of the symbol was lost, and known to be: what is above it was never received.
        assert left.highest is not None
        mark = Mark(left.highest, mark.ts_event if mark is not None else None)
    times = tail.times(key)
    missing = tuple(
        LedgerGap(*key, first, last, ts_before=times.get(first - 1), ts_after=times.get(last + 1))
        for first, last in left
    )
    return Resume(mark.trade_id, mark.ts_event, missing)


def _ledger(settings: Settings) -> dict[MarketKey, Mark]:
    try:
        return gaps.marks(settings)
    except Exception:
        # A lake that cannot be read now must not keep trades from being received: Kafka's tail is nearly always enough.
        _log.warning("the marks of the lake cannot be read; those in Kafka are taken", exc_info=True)
        return {}


@dataclass
class _Seen:
    """One symbol in the newest window: which ids stand there, and the event times at the edges of what is missing."""

    ids: IdTracker = field(default_factory=IdTracker)
    times: dict[int, int] = field(default_factory=dict)
    last: tuple[int, int] = (0, 0)

    def take(self, trade: _Trade) -> None:
        low = self.ids.low
        if low is None and trade.source != "live":
            return  # a snapshot or a repair before the first live trade says nothing of what stands between
        if low is not None and trade.trade_id < low:
            return
        if self.ids.observe(trade.trade_id).gap is not None:
            self.times[self.last[0]] = self.last[1]
            self.times[trade.trade_id] = trade.ts_event
        if trade.trade_id == self.ids.mark:
            self.last = trade.trade_id, trade.ts_event


class _Tail:
    """Marks and gaps of the wanted symbols in the end of the topic of trades."""

    def __init__(self, wanted: Collection[MarketKey]) -> None:
        self.marks: dict[MarketKey, Mark] = {}
        self._wanted = frozenset(wanted)
        self._seen: dict[MarketKey, _Seen] = {}

    def read(self, topics: _Topics, topic: str, without_mark: Collection[MarketKey]) -> None:
        """Read back, further while one of the symbols `without_mark` is not found."""
        topics.hand_over(topics.newest(topic, FIRST_MESSAGES), self._newest)
        size = FIRST_MESSAGES
        while not self.marks.keys() >= frozenset(without_mark) and size < MOST_MESSAGES:
            done, size = size, min(2 * size, MOST_MESSAGES)
            earlier = topics.newest(topic, size, beyond=done)
            if all(one.first >= one.end for one in earlier):
                break
            topics.hand_over(earlier, self._older)

    def gaps(self, key: MarketKey) -> list[tuple[int, int]]:
        """Ids missing between the first live trade of the window and its end."""
        seen = self._seen.get(key)
        return [(gap.first_id, gap.last_id) for gap in seen.ids.missing()] if seen else []

    def times(self, key: MarketKey) -> dict[int, int]:
        """Event times (µs) of some trades beside the gaps."""
        seen = self._seen.get(key)
        return seen.times if seen else {}

    def _newest(self, value: bytes) -> None:
        trade = self._older(value)
        if trade is not None:
            self._seen.setdefault((trade.venue, trade.symbol), _Seen()).take(trade)

    def _older(self, value: bytes) -> _Trade | None:
        try:
            trade = _read_trade(value)
        except _UNREADABLE:
            return None
        key = trade.venue, trade.symbol
        if key not in self._wanted:
            return None
        mark = self.marks.get(key)
        if mark is None or trade.trade_id > mark.trade_id:
            self.marks[key] = Mark(trade.trade_id, trade.ts_event)
        return trade


class _Gaps:
    """Open and unavailable gaps according to the last feed events."""

    def __init__(self, wanted: Collection[MarketKey]) -> None:
        self.open: dict[MarketKey, IdRanges] = {}
        self.unavailable: dict[MarketKey, IdRanges] = {}
        self._wanted = frozenset(wanted)

    def take(self, value: bytes) -> None:
        """Take the next event."""
        try:
            event = _read_event(value)
        except _UNREADABLE:
            return
        first, last = event.first_id, event.last_id
        if event.symbol is None or first is None or last is None or first > last:
            return
        key = event.venue, event.symbol
        if key not in self._wanted:
            return
        if event.event == "gap_opened":
            self.open.setdefault(key, IdRanges()).add(first, last)
        elif event.event in ("gap_repaired", "gap_unavailable"):
            self.open.setdefault(key, IdRanges()).remove(first, last)
            if event.event == "gap_unavailable":
                self.unavailable.setdefault(key, IdRanges()).add(first, last)


class _Topics:
    """The topics as they were at the start: the stretches at the ends of their partitions, message by message."""

    def __init__(self, bootstrap: str, reader: OffsetRangeReader, topics: Collection[str]) -> None:
        self._bootstrap = bootstrap
        self._reader = reader
        self._first = first_offsets(bootstrap, topics, READ_SECONDS)
        self._ends = end_offsets(bootstrap, topics, READ_SECONDS)

    def newest(self, topic: str, most: int, beyond: int = 0) -> list[OffsetRange]:
        """The last `most` messages of each partition, but not the last `beyond`. Ranges may be empty."""
        found = []
        for partition, end in self._ends[topic].items():
            first = self._first[topic][partition]
            found.append(OffsetRange(topic, partition, max(first, end - most), max(first, end - beyond)))
        return found

    def hand_over(self, ranges: list[OffsetRange], take: Callable[[bytes], object]) -> None:
        """Hand over the messages of ranges, in order within a partition.

        Begins again if the retention removes messages meanwhile, so `take` must bear a message twice.
        """
        while True:
            try:
                for run in self._reader.read(ranges):
                    for message in run.messages:
                        value = message.value()
                        if value is not None:
                            take(value)
                return
            except MessagesLostError:
                first = first_offsets(self._bootstrap, {one.topic for one in ranges}, READ_SECONDS)
                left = [one._replace(first=max(one.first, first[one.topic][one.partition])) for one in ranges]
                if left == ranges:
                    raise
                ranges = left
