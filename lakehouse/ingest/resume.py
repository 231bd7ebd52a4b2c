"""Read the state in which an earlier ingest ended: the mark (highest trade id) of each (venue, symbol), and open gaps.

Read from two places that outlive any machine: the ledger of Silver (if there is a lake), and the tail of the Kafka
topic, which is ahead of it. Nothing is kept in a local file.

Guarantee: each id below a mark is in Kafka, or among the gaps: trades of a symbol stand in one partition, in the order
of their ids, and a crash loses only the newest of them. A mark that is too low only costs requests for trades that are
there already.
Limit: a symbol that the ledger does not know and that is not among the last `MOST_MESSAGES` of its partition begins
anew.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from lakehouse.broker.topics import librdkafka_log
from lakehouse.continuity import gaps
from lakehouse.continuity.gaps import LedgerGap, Mark
from lakehouse.errors import BrokerUnavailableError
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
#: Most seconds for reading one stretch of messages, and for one request to the broker.
READ_SECONDS = 30.0
REQUEST_SECONDS = 10.0
#: Messages per call of the consumer.
BATCH_MESSAGES = 5_000

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
    """Return (venue, symbol) → state to continue from, for those of `wanted` that were ingested before.

    Called at the start of ingest. Raises BrokerUnavailableError if the end of Kafka's topics cannot be read: without it
    a restart would hide the trades of the time in between.
    """
    kept = {key: mark for key, mark in _ledger(settings).items() if key in wanted}
    with _Reader(settings.bootstrap()) as reader:
        tail = _Tail(wanted)
        tail.read(reader, settings.topic_trades, without_mark=frozenset(wanted) - kept.keys())
        gaps = _Gaps(wanted)
        reader.last(settings.topic_feed_events, 0, MOST_EVENTS, gaps.take)
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

    def read(self, reader: _Reader, topic: str, without_mark: Collection[MarketKey]) -> None:
        """Read back, further while one of the symbols `without_mark` is not found."""
        ends = reader.ends(topic)
        starts = {partition: max(low, high - FIRST_MESSAGES) for partition, (low, high) in ends.items()}
        reader.read(topic, {at: (starts[at], high) for at, (_, high) in ends.items()}, self._newest)
        size = FIRST_MESSAGES
        while not self.marks.keys() >= frozenset(without_mark) and size < MOST_MESSAGES:
            size = min(2 * size, MOST_MESSAGES)
            earlier = {at: (max(low, high - size), starts[at]) for at, (low, high) in ends.items()}
            if all(first >= last for first, last in earlier.values()):
                break
            reader.read(topic, earlier, self._older)
            starts = {at: first for at, (first, _) in earlier.items()}

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


class _Reader:
    """Reads stretches of a topic, without a group of its own. A context manager."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": f"marks-{uuid.uuid4().hex}",  # asked for by librdkafka; nothing is ever committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
        self._consumer = Consumer(settings, logger=librdkafka_log)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """Partition → first offset that is there, and the offset that the next message gets."""
        deadline = time.monotonic() + READ_SECONDS
        while True:
            try:
                partitions = self._consumer.list_topics(topic, REQUEST_SECONDS).topics[topic].partitions
                return {
                    at: self._consumer.get_watermark_offsets(TopicPartition(topic, at), REQUEST_SECONDS)
                    for at in partitions
                }
            except KafkaException as error:
                # A leader that has just been chosen says for a moment that it is none.
                if time.monotonic() > deadline:
                    raise self._unavailable(topic, error.args[0].str()) from None
                time.sleep(0.1)

    def last(self, topic: str, partition: int, count: int, take: Callable[[bytes], object]) -> None:
        """Hand over the last messages of one partition."""
        low, high = self.ends(topic)[partition]
        self.read(topic, {partition: (max(low, high - count), high)}, take)

    def read(self, topic: str, stretches: dict[int, tuple[int, int]], take: Callable[[bytes], object]) -> None:
        """Hand over the messages from an offset up to, not including, another; in order within a partition."""
        left = {at: last for at, (first, last) in stretches.items() if first < last}
        self._consumer.assign([TopicPartition(topic, at, stretches[at][0]) for at in left])
        deadline = time.monotonic() + READ_SECONDS
        reason = "no message came"
        while left:
            if time.monotonic() > deadline:
                raise self._unavailable(topic, f"{reason} within {READ_SECONDS:g} s")
            for message in self._consumer.consume(BATCH_MESSAGES, 0.2):
                at, offset, error, value = message.partition(), message.offset(), message.error(), message.value()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    left.pop(at or 0, None)  # the last offsets need not be messages
                elif error is not None:
                    reason = error.str()  # librdkafka tries again by itself
                elif at is not None and at in left and offset is not None:
                    if value is not None and offset < left[at]:
                        take(value)
                    if offset >= left[at] - 1:
                        del left[at]
        self._consumer.unassign()

    def _unavailable(self, topic: str, reason: str) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"the end of topic {topic} at {self._bootstrap} cannot be read ({reason})", remedy="try again"
        )
