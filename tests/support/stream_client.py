"""A client of `/v1/stream` as docs/reading-the-data.md tells one to be: whenever it is cut it goes on where it was."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from lakehouse.id_ranges import IdRanges
from lakehouse.market.symbols import MarketKey

#: Price, size, side, µs since the epoch.
Content = tuple[Decimal, Decimal, str, int]
#: Trades that the clients of a market have seen, by id: each is kept once, however many have it.
Seen = dict[int, Content]

#: Seconds between two tries, at most.
PAUSE_SECONDS = 1.5
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class StreamClient:
    """One client. It keeps its ids as ranges and compares each row with what others saw of the same trade."""

    def __init__(self, url: str, market: MarketKey, start: dt.datetime | None, seen: Seen, seed: int) -> None:
        """`start` None: live only."""
        self.market = market
        self.start = start
        self.ids = IdRanges()
        self.late = 0
        self.gaps = 0
        self.repaired = 0
        self.repeats: list[int] = []
        self.disordered: list[int] = []
        self.unlike: list[int] = []
        self.unknown: list[str] = []
        self.ends: Counter[str] = Counter()  #: how its connections ended
        self._url = url
        self._seen = seen
        self._rng = random.Random(seed)
        self._after: int | None = None
        self._told = IdRanges()
        self._from: str | None = None if start is None else start.isoformat()

    @property
    def rows(self) -> int:
        """How many trades it has."""
        return self.ids.count()

    def query(self) -> str:
        """The parameters with which it begins, or goes on."""
        venue, symbol = self.market
        wanted = {"venue": venue, "symbol": symbol} | ({} if self._from is None else {"from": self._from})
        if self._after is not None:
            missing = self._told.within(0, self._after)[-300:]
            wanted |= {"after": str(self._after)}
            wanted |= {"missing": ",".join(f"{first}-{last}" for first, last in missing)} if missing else {}
        return urlencode(wanted)

    async def run(self, stop: asyncio.Event, own_cuts: float) -> None:
        """Follow the market until the end; `own_cuts`: seconds after which it cuts its connection by itself, about."""
        while not stop.is_set():
            try:
                # No pings of its own: a machine that is overbooked answers late.
                async with connect(
                    f"{self._url}/v1/stream?{self.query()}", open_timeout=30, max_size=None, ping_interval=None
                ) as socket:
                    await self._follow(socket, stop, self._rng.expovariate(1 / own_cuts))
            except ConnectionClosed as closed:
                self.ends[str(closed.rcvd.code) if closed.rcvd else "cut"] += 1
            except (OSError, WebSocketException, EOFError) as error:
                self.ends[type(error).__name__] += 1
            await asyncio.sleep(self._rng.uniform(0.1, PAUSE_SECONDS))

    async def _follow(self, socket: ClientConnection, stop: asyncio.Event, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        cut_at = loop.time() + seconds
        while not stop.is_set():
            try:
                async with asyncio.timeout(min(1.0, max(0.01, cut_at - loop.time()))):
                    text = await socket.recv()
            except TimeoutError:
                text = None
            if text is not None:
                self.take(json.loads(text))
            if loop.time() >= cut_at:
                socket.transport.abort()
                self.ends["own cut"] += 1
                return

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        kind = message["type"]
        if kind == "trades":
            for row in message["rows"]:
                if self._after is not None and row["trade_id"] <= self._after:
                    self.disordered.append(row["trade_id"])
                self._after = row["trade_id"]
                self._add(row)
        elif kind == "late":
            self.late += len(message["rows"])
            for row in message["rows"]:
                self._told.remove(row["trade_id"], row["trade_id"])
                self._add(row)
        elif kind == "gap":
            self.gaps += 1
            self._told.add(message["first_id"], message["last_id"])
        elif kind != "live":
            self.unknown.append(json.dumps(message)[:200])

    def _add(self, row: dict[str, Any]) -> None:
        number = row["trade_id"]
        at = dt.datetime.fromisoformat(row["ts_event"])
        content = (
            Decimal(row["price"]),
            Decimal(row["size"]),
            row["side"],
            (at - _EPOCH) // dt.timedelta(microseconds=1),
        )
        self._from = self._from or at.isoformat()
        self.repaired += row["source"] == "repair"
        if not self.ids.add(number, number):
            self.repeats.append(number)
        if self._seen.setdefault(number, content) != content:
            self.unlike.append(number)
