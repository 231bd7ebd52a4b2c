"""Kills of a store and of its sink while Gold changes without a pause: then the store is equal to Gold."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.settings import Settings
from lakehouse.sinks.stores import POSTGRES, REDIS, Store
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M
from tests.support.market_lake import put
from tests.support.postgres_server import PostgresServer, programs
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.rows import NOON_US, bar_row, empty_lake
from tests.support.sinks import postgres_equals_gold, redis_equals_gold, until

pytestmark = pytest.mark.slow
MINUTE = 60_000_000
#: Bars of a series; more than Redis holds.
BARS = 300
KILLS = 4

STORES = [
    pytest.param(POSTGRES, marks=pytest.mark.skipif(programs() is None, reason="no PostgreSQL server here")),
    pytest.param(REDIS, marks=pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")),
]


class Load(threading.Thread):
    """Changes, adds and deletes bars of Gold without a pause, some hundred of them in a commit."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._ended = threading.Event()
        self.commits = 0

    def run(self) -> None:
        rng, gold = random.Random(7), dict[tuple[Any, ...], dict[str, Any]]()
        while not self._ended.is_set():
            for table in (GOLD_BARS_1M, GOLD_BARS_5M):
                for _ in range(200):
                    venue, number = rng.choice(("binance", "kraken", "coinbase")), rng.randrange(BARS)
                    price = Decimal(rng.randrange(1, 10**18)) / 10**18
                    columns = {
                        "venue": venue,
                        "close": price,
                        "revision": self.commits // 4,
                        "is_final": rng.random() < 0.5,
                    }
                    gold[table.path, venue, number] = bar_row(NOON_US + number * 5 * MINUTE, **columns)
                for key in rng.sample(sorted(gold), 10):
                    del gold[key]
                put(self._settings, table, [row for key, row in gold.items() if key[0] == table.path])
                self.commits += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def serving(store: Store) -> Iterator[PostgresServer | RedisServer]:
    server = PostgresServer() if store is POSTGRES else RedisServer(persistent=True)
    try:
        yield server
    finally:
        server.remove()


def equal(server: PostgresServer | RedisServer, settings: Settings) -> bool:
    if isinstance(server, RedisServer):
        with server.client() as client:
            return redis_equals_gold(client, settings)
    return postgres_equals_gold(server.url, settings)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_kills_under_load(store: Store, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path / "home")
    command = [sys.executable, "-m", "lakehouse", "sink", store.name, "--home", str(settings.home)]
    with serving(store) as server, (tmp_path / "log").open("wb") as log:
        environment = os.environ | {store.variable: server.url, "LAKEHOUSE_REDIS_BARS": "100"}
        settings = settings.model_copy(update={"redis_bars": 100})
        load, child = Load(settings), subprocess.Popen(command, env=environment, stderr=log)
        load.start()
        try:
            for kill in range(KILLS):
                seen = (tmp_path / "log").read_bytes().count(b" rows")
                until(lambda seen=seen: (tmp_path / "log").read_bytes().count(b" rows") > seen + 1)  # type: ignore[misc]
                time.sleep(random.Random(kill).random() * 2)  # before, in, or behind a transaction
                if kill % 2:
                    child.kill()
                    child.wait(60)
                    child = subprocess.Popen(command, env=environment, stderr=log)
                else:
                    server.kill()
                    outages = kill // 2
                    until(lambda n=outages: (tmp_path / "log").read_bytes().count(b"does not answer") > n, 120)  # type: ignore[misc]
                    server.start()
            load.end()
            until(lambda: equal(server, settings), 90)
            assert load.commits > 20
        except AssertionError as error:
            raise AssertionError((tmp_path / "log").read_text()) from error
        finally:
            load.end()
            child.terminate()
            child.wait(60)
        assert child.returncode == 0, (tmp_path / "log").read_text()
