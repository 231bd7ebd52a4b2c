"""Bars in a real Redis, through changes of Gold and kills of the server: equal to Gold afterwards."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakehouse.errors import RetriableError, SettingError, TerminalError
from lakehouse.lake.table_io import arrow_schema, open_table
from lakehouse.settings import Settings
from lakehouse.sinks import newest_bars
from lakehouse.sinks.redis_store import RedisSink
from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M
from tests.support.market_lake import put
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.rows import NOON_US, bar_row, empty_lake
from tests.support.sinks import redis_equals_gold

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")
DAY = 86_400_000_000
MINUTE = 60_000_000
MOST = 20
DOCUMENT = Path(__file__).parents[2] / "docs" / "reading-the-data.md"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer(persistent=True)
    yield one
    one.remove()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return empty_lake(tmp_path / "home").model_copy(update={"redis_bars": MOST})


def bar(number: int, **columns: Any) -> dict[str, Any]:
    return bar_row(NOON_US + number * MINUTE, close=Decimal("0.00000001"), first_trade_id=number, **columns)


def bring(sink: RedisSink) -> dict[str, int]:
    """Look at Gold now, and not only when it is due."""
    sink._next_look = 0.0
    return sink.look()


def test_a_bar_is_as_the_documents_say(server: RedisServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(one, venue=venue) for one in range(30) for venue in ("binance", "kraken")])
    put(settings, GOLD_BARS_5M, [bar(0)])
    with RedisSink(settings, server.url) as sink, server.client() as client:
        assert bring(sink) == {"1m": 2 * MOST, "5m": 1}
        assert redis_equals_gold(client, settings)
        assert bring(sink) == {}
        (newest,) = client.zrange("lakehouse:bars:1m:kraken:BTC/USDT", -1, -1)
        shown = json.loads(newest)
        assert (shown["bar_start"], shown["close"], shown["vwap"]) == ("2026-11-01T12:29:00Z", "0.00000001", "10.5")
        assert client.zscore("lakehouse:bars:1m:kraken:BTC/USDT", newest) == NOON_US / 1e6 + 29 * 60
        version = client.hgetall("lakehouse:sink:1m")
        assert (version["version"], version["bars"]) == (str(open_table(settings, GOLD_BARS_1M).version()), str(MOST))
        assert sink.rows() == 2 * MOST + 1


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here")
def test_the_commands_of_the_documents(server: RedisServer, settings: Settings) -> None:
    commands = re.findall(
        r"^\$ redis-cli ((?:HGET|ZRANGE) [^#\n]+)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    put(settings, GOLD_BARS_1M, [bar(one) for one in range(15)])
    with RedisSink(settings, server.url) as sink, server.client() as client:
        bring(sink)
        client.hset("lakehouse:price:binance:BTC/USDT", "price", "1.5")
    found = [
        subprocess.run(["redis-cli", "-u", server.url, *shlex.split(one)], capture_output=True, text=True, check=True)
        for one in commands
    ]
    assert [len(one.stdout.splitlines()) for one in found] == [1, 10, 15]


def test_a_change_is_published_with_its_oldest_bar(server: RedisServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(one) for one in range(5)])
    with RedisSink(settings, server.url) as sink, server.client() as client, client.pubsub() as news:
        bring(sink)
        news.psubscribe("lakehouse:bars:*")
        assert news.get_message(timeout=5)["type"] == "psubscribe"
        put(settings, GOLD_BARS_1M, [bar(one, revision=2 if one >= 3 else 1) for one in range(5)])
        bring(sink)
        found = news.get_message(timeout=5)
        assert found["channel"] == "lakehouse:bars:1m:binance:BTC/USDT"
        assert int(found["data"]) == NOON_US // 1_000_000 + 3 * 60


@pytest.mark.parametrize("seed", range(1, 5))
def test_any_changes(server: RedisServer, settings: Settings, seed: int) -> None:
    """Bars that come late, change, go and come back, of series that begin and end, in several files and days."""
    rng = random.Random(seed)
    gold: dict[tuple[str, int], dict[str, Any]] = {}
    with RedisSink(settings, server.url) as sink, server.client() as client:
        for turn in range(25):
            venue = rng.choice(("binance", "kraken", "coinbase"))
            at = rng.choice((0, 0, DAY // MINUTE))
            for number in rng.sample(range(at, at + 45), rng.randint(1, 30)):
                gold[venue, number] = bar(number, venue=venue, revision=turn, high=Decimal(rng.randint(1, 10**9)))
            for key in rng.sample(sorted(gold), rng.choice((0, 0, 1, 3, len(gold) // 2))):
                del gold[key]
            if rng.random() < 0.1:
                gold = {key: row for key, row in gold.items() if key[0] != venue}
            put(settings, GOLD_BARS_1M, gold.values())
            if rng.random() < 0.3:
                day, kept = rng.choice((1, 2)), []
                for key, row in list(gold.items()):
                    if row["bar_start"].day == day:
                        del gold[key]
                        kept.append(row)
                open_table(settings, GOLD_BARS_1M).delete(f"bar_date = '2026-11-0{day}'")
            if rng.random() < 0.7:
                bring(sink)
                assert redis_equals_gold(client, settings), turn


def test_only_what_has_changed_is_written(server: RedisServer, settings: Settings) -> None:
    rows = [bar(one) for one in range(100)]
    put(settings, GOLD_BARS_1M, rows)
    with RedisSink(settings, server.url) as sink, server.client() as client:
        bring(sink)
        put(settings, GOLD_BARS_1M, [*rows[:99], bar(99, is_final=True), bar(100)])  # the same revision, as Gold has it
        assert bring(sink) == {"1m": 2}
        assert redis_equals_gold(client, settings)


@pytest.mark.parametrize("gone", ["log", "files", "lake", "number"])
def test_what_cannot_be_compared_is_written_anew(
    server: RedisServer, settings: Settings, tmp_path: Path, gone: str
) -> None:
    put(settings, GOLD_BARS_1M, [bar(1), bar(2), bar(1, symbol="OLD/USD")])
    with RedisSink(settings, server.url) as sink:
        bring(sink)
    table = Path(settings.lake) / "gold" / "bars_1m"
    if gone == "lake":
        settings = empty_lake(tmp_path / "other").model_copy(update={"redis_bars": MOST})
        put(settings, GOLD_BARS_1M, [bar(2)])
    elif gone == "number":
        settings = settings.model_copy(update={"redis_bars": 1})
    else:
        old = set(table.rglob("*.parquet"))
        put(settings, GOLD_BARS_1M, [bar(3)])
        opened = open_table(settings, GOLD_BARS_1M)
        opened.create_checkpoint()
        for path in old if gone == "files" else [table / "_delta_log" / f"{one:020}.json" for one in range(2)]:
            path.unlink()
    with RedisSink(settings, server.url) as sink, server.client() as client:
        bring(sink)
        assert redis_equals_gold(client, settings)


def test_an_emptied_redis_and_a_killed_one(settings: Settings) -> None:
    server = RedisServer(persistent=False)
    try:
        with RedisSink(settings, server.url) as sink, server.client() as client:
            for number in range(4):
                put(settings, GOLD_BARS_1M, [bar(one, revision=number) for one in range(number * 10)])
                if number % 2:
                    server.kill()
                    with pytest.raises(RetriableError, match="Redis does not answer"):
                        bring(sink)
                    server.start()
                bring(sink)
                assert redis_equals_gold(client, settings)
                client.flushall()
            bring(sink)
            assert redis_equals_gold(client, settings)
    finally:
        server.remove()


def test_a_second_sink_loses_and_doubles_nothing(
    server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    with RedisSink(settings, server.url) as one, RedisSink(settings, server.url) as other, server.client() as client:
        bring(one)
        put(settings, GOLD_BARS_1M, [bar(1, revision=2), bar(2)])
        compute = newest_bars.difference

        def interrupted(*arguments: Any) -> Any:
            monkeypatch.undo()
            bring(other)
            return compute(*arguments)

        monkeypatch.setattr("lakehouse.sinks.redis_store.difference", interrupted)
        with pytest.raises(RetriableError, match="another sink"):
            bring(one)
        assert bring(one) == {}
        assert redis_equals_gold(client, settings)


def test_a_key_of_somebody_else_is_one_line_and_then_replaced(server: RedisServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    with RedisSink(settings, server.url) as sink, server.client() as client:
        bring(sink)
        client.set("lakehouse:bars:1m:binance:BTC/USDT", "mine")
        put(settings, GOLD_BARS_1M, [bar(1), bar(2)])
        with pytest.raises(TerminalError, match=r"Redis refused .*WRONGTYPE"):
            bring(sink)
        bring(sink)
        assert redis_equals_gold(client, settings)


def test_no_server_and_a_wrong_password_are_one_line_without_it(settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    server = RedisServer(persistent=False, password="right")
    try:
        for url, kind in (
            ("redis://u:secret@127.0.0.1:1/0", RetriableError),
            (server.url.replace("right", "secret"), TerminalError),
            (server.url.replace(":right@", ""), TerminalError),
        ):
            with RedisSink(settings, url) as sink, pytest.raises(kind) as caught:
                sink.look()
            assert "secret" not in str(caught.value)
            assert "\n" not in str(caught.value)
        for url in ("redis://u:secret@h:port/0", "http://u:secret@h/0"):
            with pytest.raises(SettingError) as refused:
                RedisSink(settings, url)
            assert "secret" not in str(refused.value)
    finally:
        server.remove()


def test_a_redis_without_memory_left_is_waited_for(server: RedisServer, settings: Settings) -> None:
    put(settings, GOLD_BARS_1M, [bar(1)])
    with RedisSink(settings, server.url) as sink, server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(RetriableError, match="takes no writes"):
            bring(sink)
        client.config_set("maxmemory", 0)
        bring(sink)
        assert redis_equals_gold(client, settings)


def test_a_large_change_is_read_day_by_day(
    server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [bar(one + day * DAY // MINUTE) for day in range(5) for one in range(8)]
    put(settings, GOLD_BARS_1M, rows)
    with RedisSink(settings, server.url) as sink, server.client() as client:
        bring(sink)
        monkeypatch.setattr(newest_bars, "MOST_ROWS", 3)
        put(settings, GOLD_BARS_1M, [row | {"revision": 2} for row in rows[:-1]])
        bring(sink)
        assert redis_equals_gold(client, settings)


def test_many_files_of_a_day(server: RedisServer, settings: Settings) -> None:
    with RedisSink(settings, server.url) as sink, server.client() as client:
        for number in range(30):
            row = bar(number, updated_at=dt.datetime(2026, 11, 2, tzinfo=dt.UTC))
            write_deltalake(
                open_table(settings, GOLD_BARS_1M),
                pa.Table.from_pylist([row], schema=arrow_schema(GOLD_BARS_1M)),
                mode="append",
            )
            if number % 7 == 0:
                assert bring(sink)["1m"] in (1, 7)
        bring(sink)
        assert redis_equals_gold(client, settings)
