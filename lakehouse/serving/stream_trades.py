"""The trades of a market over a WebSocket: from the lake first and then live, in the order of their ids, each once.

Guarantee: from its first trade on, a client gets every trade of the market that Kafka or the lake ever gets, each once,
in the order of ids. A missing id is waited for, for some seconds; then the client is told of the gap, and a trade of
the gap that comes later is sent as a late one. With its highest id and the gaps a client can resume after any
interruption.
How: pages of the lake first. Then the client is subscribed to Kafka's messages, and the lake is read once more, at a
version of which ops/batches says how far it has read Kafka. All trades are put in order by id.
Limit: of two trades with one id that differ, Silver keeps the one that is first in Kafka; a live stream that begins
between the two sends the second. No client gets both.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa

from lakehouse.client.text import cell
from lakehouse.errors import LakehouseError
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.prices.latest_trade import LatestTrade
from lakehouse.serving.answers import Api
from lakehouse.serving.cursor import micros
from lakehouse.serving.fan_out import Subscription, joins
from lakehouse.serving.in_order import Hole, InOrder
from lakehouse.serving.past import COLUMNS, PAGE_ROWS, Past, age, unavailable
from lakehouse.serving.problems import Problem
from lakehouse.serving.seam import Seam
from lakehouse.serving.wish import Wish
from lakehouse.tables import SILVER_TRADES

#: Rows of one message at most.
ROWS = 500
#: Trades that may wait behind a missing id; with more it is waited for no longer.
MOST_HELD = 20_000
#: Seconds that the lake gets to come near enough to Kafka.
JOIN_SECONDS = 60.0
JOIN_RETRY_SECONDS = 0.5
#: Seconds that a server which has just started gets to begin with Kafka.
BEGIN_SECONDS = 5.0
#: Seconds that a page may take before the lake is asked once more for what has come meanwhile.
PAGE_SECONDS = 5.0
#: Seconds after which the ledger is asked whether the venue has a missing id at all, and between two looks.
LOOK_SECONDS = 2.0

Message = dict[str, Any]
_LIVE: Message = {"type": "live"}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class TooSlowError(Exception):
    """The client does not read fast enough."""


async def parts(api: Api, wish: Wish) -> AsyncGenerator[Message, None]:
    """Yield the messages of a stream: `trades`, `gap`, `late`, and `live` once, after the trades so far.

    Raises TooSlowError if the client falls behind, LakehouseError if the lake is too far behind Kafka.
    """
    stream = _Stream(api, wish)
    if wish.start is not None:
        async for message in stream.pages(wish.start):
            yield message
        if stream.is_over:
            return
    subscription, first = api.fan_out.subscribe(wish.venue, wish.symbol)
    try:
        if wish.start is not None:
            seam = await _joined(api, first)
            async for message in stream.pages(wish.start, seam.version):
                yield message
            stream.begin(subscription.before)
            for message in stream.take(subscription.before):
                yield message
        else:
            await _begun(api, first)
            stream.begin(api.prices.latest(wish.venue, wish.symbol))
        subscription.before = []
        if not stream.is_over:
            yield _LIVE
        while not stream.is_over:
            for message in stream.take(_waiting(subscription)):
                yield message
            if subscription.is_behind:
                raise TooSlowError
            await stream.look()
            if not subscription.pending:
                await subscription.wait(stream.patience())
    finally:
        api.fan_out.unsubscribe(subscription)


async def _begun(api: Api, first: dict[int, int]) -> None:
    """Wait until Kafka is followed, so that no trade after `live` is missed; BEGIN_SECONDS if Kafka does not answer."""
    deadline = time.monotonic() + BEGIN_SECONDS
    while api.fan_out.since(first) is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def _joined(api: Api, first: dict[int, int]) -> Seam:
    """Return a seam behind the first offsets of a subscription, waiting for the lake if it must."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        seam = await asyncio.to_thread(api.seams.newest)  # read twice a second at most, too
        newest = await asyncio.to_thread(api.tables.newest, SILVER_TRADES)  # looked up twice a second at most
        since = api.fan_out.since(first)
        if seam and since is not None and newest.version >= seam.version and joins(since, seam.read):
            return seam
        if time.monotonic() > deadline:
            raise LakehouseError("the lake is too far behind Kafka", "streams that run", "try again later")
        await asyncio.sleep(JOIN_RETRY_SECONDS)


def _waiting(subscription: Subscription) -> Iterator[LatestTrade]:
    while subscription.pending:
        yield subscription.pending.popleft()


class _Stream:
    """The trades that one client has got, and the next messages for it."""

    def __init__(self, api: Api, wish: Wish) -> None:
        self.is_over = False  #: a trade behind the end has come
        self._api = api
        self._wish = wish
        self._market = (wish.venue, wish.symbol)
        self._start = None if wish.start is None else micros(wish.start)
        self._end = None if wish.end is None else micros(wish.end)
        self._order: InOrder[tuple[int, Message | LatestTrade]] | None = None
        self._has_begun = wish.after is not None
        if wish.after is not None:
            self._order = InOrder(wish.after + 1, wish.missing)
        self._unavailable = IdRanges()
        self._next_look = 0.0
        self._since = wish.start
        self._paced: tuple[float, int] | None = None

    # --- the lake

    async def pages(self, start: dt.datetime, version: int | None = None) -> AsyncIterator[Message]:
        """Yield what the lake has and the client has not, up to now; at a version also of the gaps before."""
        while not self.is_over:
            began = time.monotonic()
            past = await self._past(version)
            if self._order is None:
                first = await asyncio.to_thread(past.first_id, start)
                if first is None:
                    return
                self._order = InOrder(first)
            behind = self._order.highest
            rows = await asyncio.to_thread(past.page, self._since or start, -1 if behind is None else behind)
            async for message in self._sent(rows):
                yield message
            if rows.num_rows < PAGE_ROWS and time.monotonic() - began < PAGE_SECONDS:
                break
        if version is not None and self._order is not None and not self.is_over:
            for rows in await asyncio.to_thread(list, past.of_ids(start, self._order.wanted())):
                async for message in self._sent(rows):
                    yield message

    async def _past(self, version: int | None = None) -> Past:
        tables = self._api.tables
        if version is None:
            version = (await asyncio.to_thread(tables.newest, SILVER_TRADES)).version
        return Past(self._api.settings, tables, self._market, version)

    async def _sent(self, rows: pa.Table) -> AsyncIterator[Message]:
        """Yield the messages that follow from rows of the lake, at the speed that was asked for."""
        for at in range(0, rows.num_rows, ROWS):
            self._put_rows(rows.slice(at, ROWS).to_pylist())
            for message in self._messages():
                await self._pace(message)
                yield message
            await asyncio.sleep(0)  # others wait for the event loop too

    def _put_rows(self, rows: list[dict[str, Any]]) -> None:
        now = time.monotonic()
        for row in rows:
            self._put(row["trade_id"], micros(row["ts_event"]), row, now - age(row))
        if rows:
            self._since = rows[-1]["ts_event"]

    async def _pace(self, message: Message) -> None:
        if not self._wish.speed or message["type"] != "trades":
            return
        at, now = micros(dt.datetime.fromisoformat(message["rows"][0]["ts_event"])), time.monotonic()
        began, first_at = self._paced = self._paced or (now, at)
        await asyncio.sleep(max(0.0, began + (at - first_at) / 1_000_000 / self._wish.speed - now))

    # --- Kafka

    def begin(self, known: Iterable[LatestTrade]) -> None:
        """Begin with Kafka, if the lake has nothing of the range: behind the trades that are known from before it."""
        if self._order is not None:
            return
        known = list(known)
        inside = (one.trade_id for one in known if self._start is not None and one.ts_event >= self._start)
        first = min(inside, default=None)
        before = [one.trade_id for one in known if first is None or one.trade_id < first]
        self._order = InOrder(max(before) + 1 if before else first)

    def take(self, trades: Iterable[LatestTrade]) -> Iterator[Message]:
        """Yield the messages that follow from trades of Kafka."""
        now = time.monotonic()
        for trade in trades:
            self._put(trade.trade_id, trade.ts_event, trade, now)
        yield from self._messages()

    def patience(self) -> float | None:
        """Return for how many seconds to wait for news; None if nothing else can happen."""
        return 1.0 if self._order is not None and self._order.hole() else None

    async def look(self) -> None:
        """Look in the ledger for ids that the venue does not have, and in the lake before a gap is told."""
        hole, now = self._order.hole() if self._order is not None else None, time.monotonic()
        if hole is None or now < self._next_look or now - hole.since < min(LOOK_SECONDS, self._wish.hold):
            return
        self._next_look = now + LOOK_SECONDS
        with contextlib.suppress(Problem, *READ_ERRORS):
            await self._fill(hole, now)  # a lake that cannot be read now is no reason to cut a live stream

    async def _fill(self, hole: Hole, now: float) -> None:
        found = await asyncio.to_thread(unavailable, self._api.settings, self._api.tables, self._market)
        self._unavailable = IdRanges(found)
        if now - hole.since >= self._wish.hold - LOOK_SECONDS:
            past = await self._past()
            since = self._since or dt.datetime.now(dt.UTC)
            for rows in await asyncio.to_thread(list, past.of_ids(since, [(hole.first, hole.last)])):
                self._put_rows(rows.to_pylist())

    # --- both

    def _put(self, trade_id: int, at: int, row: Message | LatestTrade, came: float) -> None:
        assert self._order is not None, "begin before"
        self._order.put(trade_id, (at, row), came)

    def _messages(self) -> Iterator[Message]:
        """Yield what may be sent now."""
        if self._order is None:
            return
        now = time.monotonic()
        yield from _chunks("late", self._in_range(self._order.late(), late=True))
        while not self.is_over:
            yield from _chunks("trades", self._in_range(self._order.ready()))
            hole = self._order.hole()
            if hole is None or self.is_over:
                return
            is_gone = self._unavailable.covers(hole.first, hole.last)
            if not is_gone and now - hole.since < self._wish.hold and self._order.held <= MOST_HELD:
                return
            self._order.pass_over()
            yield {"type": "gap", "first_id": hole.first, "last_id": hole.last, "unavailable": is_gone}

    def _in_range(self, trades: Iterable[tuple[int, Message | LatestTrade]], late: bool = False) -> Iterator[Message]:
        for at, row in trades:
            if self._end is not None and at >= self._end:
                if late:
                    continue
                self.is_over = True
                return
            if self._is_before(at, late):
                continue
            self._has_begun = True
            yield _row(row)

    def _is_before(self, at: int, late: bool) -> bool:
        """Return whether a trade is from before the beginning: an id that was missing there. Later, ids alone count."""
        if self._start is None or self._wish.after is not None:
            return False
        return at < self._start and (late or not self._has_begun)


def _chunks(kind: str, rows: Iterator[Message]) -> Iterator[Message]:
    found = list(rows)
    for at in range(0, len(found), ROWS):
        yield {"type": kind, "rows": found[at : at + ROWS]}


def _row(row: Message | LatestTrade) -> Message:
    if isinstance(row, LatestTrade):
        return {
            "venue": row.venue,
            "symbol": row.symbol,
            "trade_id": row.trade_id,
            "price": cell(Decimal(row.price)),
            "size": cell(Decimal(row.size)),
            "side": row.side,
            "ts_event": cell(_EPOCH + dt.timedelta(microseconds=row.ts_event)),
            "source": row.source,
        }
    return {name: cell(row[name]) for name in COLUMNS}
