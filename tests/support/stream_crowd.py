"""Many clients of `/v1/stream`, which begin at random moments and at random times of the past."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import threading

from lakehouse.market.symbols import MarketKey
from tests.support.stream_client import Seen, StreamClient

#: Seconds after which a client cuts its connection by itself, about.
OWN_CUTS_SECONDS = 60.0
#: This part of the clients begins live.
LIVE = 0.2


class Crowd:
    """The clients, in a thread with an event loop of its own."""

    def __init__(self, url: str, count: int, seed: int, seconds: float, earliest: dict[MarketKey, dt.datetime]) -> None:
        self.clients: list[StreamClient] = []
        self.seen: dict[MarketKey, Seen] = {market: {} for market in earliest}
        self._url, self._count, self._seconds, self._earliest = url.replace("http", "ws", 1), count, seconds, earliest
        self._rng = random.Random(seed)
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all clients. Raises what one of them failed with."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60.0)
        assert not self._thread.is_alive(), "a client did not end"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._all())
        except BaseException as error:
            self._failure = error
        finally:
            self._loop.close()

    async def _all(self) -> None:
        began = self._loop.time()
        # The last ones begin while the storm still rages.
        times = sorted(self._rng.uniform(0, self._seconds * 0.95) for _ in range(self._count))
        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(times):
                await asyncio.sleep(max(0.0, began + at - self._loop.time()))
                group.create_task(self._client(number).run(self._stop, OWN_CUTS_SECONDS))

    def _client(self, number: int) -> StreamClient:
        market = self._rng.choice(sorted(self._earliest))
        now, earliest = dt.datetime.now(dt.UTC), self._earliest[market]
        start = None if self._rng.random() < LIVE else earliest + self._rng.random() * (now - earliest)
        client = StreamClient(self._url, market, start, self.seen[market], number)
        self.clients.append(client)
        return client
