"""Hand each trade from Kafka to the live streams that want it; a new stream gets the trades of the last minutes too.

Guarantee: a subscription gets every message of Kafka from the offsets `first` on, once for each copy in Kafka, in the
order of each partition. A subscription that falls behind is marked and gets no more, so that memory is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse.prices.latest_trade import LatestTrade

#: Messages that are kept for streams that begin: more than a minute and a half at 1,000 trades/s.
KEPT_MESSAGES = 100_000
#: Trades that may wait for one client.
MOST_PENDING = 20_000


@dataclass(eq=False)
class Subscription:
    """The trades of one market for one client. `before`: those of the last minutes; `pending`: those that came since.

    `is_behind`: the client was too slow, so later trades are missing.
    """

    venue: str
    symbol: str
    loop: asyncio.AbstractEventLoop
    before: list[LatestTrade] = field(default_factory=list)
    pending: deque[LatestTrade] = field(default_factory=deque)
    is_behind: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, trade: LatestTrade) -> bool:
        """Return True if a trade is of this market."""
        return trade.symbol == self.symbol and trade.venue == self.venue

    async def wait(self, seconds: float | None = None) -> None:
        """Wait for news, at most `seconds` (None: without limit)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def wake(self) -> None:
        """Let `wait` return. Can be called from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._news.set)


class FanOut:
    """The messages of the last minutes and the subscriptions. One thread puts; any thread may subscribe."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int, LatestTrade]] = deque()
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._partitions = 0
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()

    def begin(self, partition: int, offset: int) -> None:
        """Note that a partition is read from `offset` on.

        If that leaves a gap after the kept messages, subscriptions have everything only from `offset` on.
        """
        with self._lock:
            if self._next.get(partition) != offset:
                self._first[partition] = self._next[partition] = offset

    def expect(self, partitions: int) -> None:
        """Note how many partitions the topic has."""
        self._partitions = partitions

    def since(self, first: Mapping[int, int]) -> dict[int, int] | None:
        """Return the offsets from which a subscription has everything; None until every partition has begun.

        `first`: the offsets that `subscribe` returned. A subscription has all of a partition that began later.
        """
        with self._lock:
            found = self._first | dict(first)
            return found if found and len(found) >= self._partitions else None

    def put(self, messages: list[tuple[int, int, LatestTrade | None]]) -> None:
        """Take messages (partition, offset, trade or None) in order, and wake the subscriptions that want them."""
        woken: set[Subscription] = set()
        with self._lock:
            for partition, offset, trade in messages:
                self._next[partition] = offset + 1
                if trade is None:
                    continue
                self._kept.append((partition, offset, trade))
                if len(self._kept) > KEPT_MESSAGES:
                    of, gone, _ = self._kept.popleft()
                    self._first[of] = max(self._first.get(of, 0), gone + 1)
                for one in self._subscriptions:
                    if one.wants(trade) and not one.is_behind:
                        one.pending.append(trade)
                        one.is_behind = len(one.pending) > MOST_PENDING
                        woken.add(one)
        for one in woken:
            one.wake()

    def subscribe(self, venue: str, symbol: str) -> tuple[Subscription, dict[int, int]]:
        """Return a new subscription and, by partition, the first offset from which it has everything."""
        new = Subscription(venue, symbol, asyncio.get_running_loop())
        with self._lock:
            new.before = [trade for _, _, trade in self._kept if new.wants(trade)]
            self._subscriptions.add(new)
            return new, dict(self._first)

    def __len__(self) -> int:
        """Return how many subscriptions there are."""
        return len(self._subscriptions)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            self._subscriptions.discard(subscription)


def joins(first: Mapping[int, int], read: Mapping[int, int]) -> bool:
    """Return True if messages read up to `read` (exclusive) and messages from `first` on leave no message out."""
    return all(read.get(partition, 0) >= offset for partition, offset in first.items())
