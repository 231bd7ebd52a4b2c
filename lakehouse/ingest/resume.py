"""Read the state in which an earlier ingest ended: the mark (highest trade id) of each (venue, symbol), and open gaps.

The state comes from two places that outlive any machine: the ledger of Silver (if there is a lake), and the tail of the
Kafka topic, which is ahead of the ledger. Nothing is kept in a local file.

Guarantee: each id below a mark is in Kafka, or among the gaps: an ingest sends the trades of a symbol to one partition,
in the order of their ids, and a crash loses only the newest of them. An ingest of before may have sent to another
partition, if the topic had fewer. A mark that is too low only costs requests for trades that are there already.
Limit: a symbol that the ledger does not know and that is not among the last `MOST_MESSAGES` of its partition begins
anew. A gap between two partitions of a symbol is found only if both were read from before it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec

from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange, OffsetRangeReader
from lakehouse.broker.topics import end_offsets, first_offsets
from lakehouse.continuity import gaps
from lakehouse.continuity.gaps import LedgerGap, Mark
from lakehouse.id_ranges import IdRanges
from lakehouse.market.symbols import MarketKey
from lakehouse.settings import Settings

_log = logging.getLogger(__name__)

#: Messages that are read at the end of each partition in any case: 80 s of 1,000 trades/s in six partitions, half a
#: second to read. They show the gaps that a process had just opened when it was killed during a repair.
FIRST_MESSAGES = 13_000
#: Most messages read back per partition, twice as many each time, in search of a symbol without a mark; takes seconds.
MOST_MESSAGES = 200_000
#: Feed events read back for the gaps that were left open. A reconnect makes some ten events, a gap two.
MOST_EVENTS = 20_000
#: Seconds in which the broker must answer with the offsets of the topics.
READ_SECONDS = 30.0
#: A time before that of every message.
ALWAYS = -1

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


class _Taken(NamedTuple):
    """A trade in the end of a partition; `sent` is Kafka's time in ms."""

    trade_id: int
    ts_event: int
    sent: int
    is_live: bool


class _Tail:
    """Marks and gaps of the wanted symbols in the end of the topic of trades, in whichever partitions they stand."""

    def __init__(self, wanted: Collection[MarketKey]) -> None:
        self.marks: dict[MarketKey, Mark] = {}
        self._wanted = frozenset(wanted)
        self._newest: dict[MarketKey, dict[int, list[_Taken]]] = {}  # by partition, in the order there
        self._since: dict[int, int] = {}  # partition → Kafka's time from which on all of its messages were taken

    def read(self, topics: _Topics, topic: str, without_mark: Collection[MarketKey]) -> None:
        """Read back, further while one of the symbols `without_mark` is not found."""
        newest = topics.newest(topic, FIRST_MESSAGES)
        self._since = dict.fromkeys(topics.whole(newest), ALWAYS)
        topics.hand_over(newest, self._take)
        size = FIRST_MESSAGES
        while not self.marks.keys() >= frozenset(without_mark) and size < MOST_MESSAGES:
            done, size = size, min(2 * size, MOST_MESSAGES)
            earlier = topics.newest(topic, size, beyond=done)
            if all(one.first >= one.end for one in earlier):
                break
            topics.hand_over(earlier, self._mark)

    def gaps(self, key: MarketKey) -> list[tuple[int, int]]:
        """Ids missing between the first live trade of the time that was read, and the last trade.

        The time begins where the reading of all partitions with trades of this symbol does: if the symbol has moved,
        the trades before stand in one partition, and what follows them in another one may not have been read.
        """
        parts = self._newest.get(key, {})
        since = max((self._since[partition] for partition in parts), default=ALWAYS)
        # A snapshot or a repair before the first live trade says nothing of what stands between.
        live = (next((one for one in part if one.is_live and one.sent >= since), None) for part in parts.values())
        low = min((one.trade_id for one in live if one is not None), default=None)
        if low is None:
            return []
        ids = sorted({one.trade_id for part in parts.values() for one in part if one.trade_id >= low})
        return [(before + 1, after - 1) for before, after in pairwise(ids) if after - before > 1]

    def times(self, key: MarketKey) -> dict[int, int]:
        """Event times (µs) of the newest trades by id."""
        return {one.trade_id: one.ts_event for part in self._newest.get(key, {}).values() for one in part}

    def _take(self, partition: int, sent: int, value: bytes) -> None:
        self._since.setdefault(partition, sent)
        trade = self._mark(partition, sent, value)
        if trade is not None:
            part = self._newest.setdefault((trade.venue, trade.symbol), {}).setdefault(partition, [])
            part.append(_Taken(trade.trade_id, trade.ts_event, sent, trade.source == "live"))

    def _mark(self, _partition: int, _sent: int, value: bytes) -> _Trade | None:
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

    def take(self, _partition: int, _sent: int, value: bytes) -> None:
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

    def whole(self, ranges: list[OffsetRange]) -> list[int]:
        """The partitions of those ranges that begin at the oldest message which Kafka had at the start."""
        return [one.partition for one in ranges if one.first == self._first[one.topic][one.partition]]

    def hand_over(self, ranges: list[OffsetRange], take: Callable[[int, int, bytes], object]) -> None:
        """Hand over the messages of ranges as (partition, Kafka's time in ms, value), in order within a partition.

        Begins again if the retention removes messages meanwhile, so `take` must bear a message twice.
        """
        while True:
            try:
                for run in self._reader.read(ranges):
                    for message in run.messages:
                        value = message.value()
                        if value is not None:
                            take(run.partition, message.timestamp()[1], value)
                return
            except MessagesLostError:
                first = first_offsets(self._bootstrap, {one.topic for one in ranges}, READ_SECONDS)
                left = [one._replace(first=max(one.first, first[one.topic][one.partition])) for one in ranges]
                if left == ranges:
                    raise
                ranges = left
