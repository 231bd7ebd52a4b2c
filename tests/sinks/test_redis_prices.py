"""Latest prices in a real Redis, from a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from lakehouse.exchanges.model import Trade, encode
from lakehouse.settings import Settings
from lakehouse.sinks.redis_store import RedisSink
from lakehouse.tables import GOLD_BARS_1M
from tests.support.market_lake import put
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.rows import NOON_US, bar_row, empty_lake
from tests.support.sinks import redis_equals_gold, until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer(persistent=True)
    yield one
    one.remove()


def send(settings: Settings, *trades: tuple[int, str]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap()})
    for trade_id, price in trades:
        message = Trade(
            venue="binance",
            symbol="BTC/USDT",
            native_symbol="BTCUSDT",
            trade_id=trade_id,
            price=price,
            size="0.25",
            side="buy",
            ts_event=NOON_US + 123_456,
            ts_ingest=NOON_US + 123_457,
            source="live",
            raw="{}",
        )
        producer.produce(settings.topic_trades, encode(message), key=b"BTC/USDT")
    assert producer.flush(30) == 0


@pytest.mark.kafka
def test_prices(kafka_settings: Settings, server: RedisServer) -> None:
    key, first = "lakehouse:price:binance:BTC/USDT", 2**53  # beyond it a float confuses two ids
    send(kafka_settings, (first, "1.10"), (first - 1, "9.99"))
    with RedisSink(kafka_settings, server.url) as sink, server.client() as client, client.pubsub() as news:
        news.psubscribe("lakehouse:price:*")
        assert news.get_message(timeout=5)["type"] == "psubscribe"
        assert sink.lacks(30) == ""
        sink.look()
        shown = {
            "trade_id": str(first),
            "venue": "binance",
            "symbol": "BTC/USDT",
            "price": "1.10",
            "size": "0.25",
            "side": "buy",
            "ts_event": "2026-11-01T12:00:00.123456Z",
            "ts_ingest": "2026-11-01T12:00:00.123457Z",
        }
        assert client.hgetall(key) == shown
        assert json.loads(news.get_message(timeout=5)["data"]) == shown | {"trade_id": first}
        send(kafka_settings, (first + 1, "2.20"))
        until(lambda: sink.look() == {} and client.hget(key, "price") == "2.20")
        client.hset(key, mapping={"trade_id": first + 2, "price": "3.30"})  # of another sink, which is ahead
        sink._sent.clear()
        sink.look()
        assert client.hget(key, "price") == "3.30"
        client.flushall()
        until(lambda: sink.look() == {} and client.hget(key, "price") == "2.20")


@pytest.mark.kafka
def test_prices_of_another_lake_go(kafka_settings: Settings, server: RedisServer, tmp_path: Path) -> None:
    key = "lakehouse:price:binance:BTC/USDT"
    old = empty_lake(tmp_path / "old")
    with RedisSink(old, server.url) as sink, server.client() as client:
        sink.look()
        client.hset(key, mapping={"trade_id": 10**9, "price": "7"})
        client.hset("lakehouse:price:kraken:OLD/USD", mapping={"trade_id": 1, "price": "7"})
        put(empty_lake(kafka_settings.home), GOLD_BARS_1M, [bar_row()])
        send(kafka_settings, (1, "1.10"))
        with RedisSink(kafka_settings, server.url) as new:
            assert new.lacks(30) == ""
            new.look()
        assert client.hget(key, "price") == "1.10"
        assert client.keys("lakehouse:price:*") == [key]


def test_kafka_that_is_away_is_told(tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = empty_lake(tmp_path / "home")
    monkeypatch.setattr("lakehouse.sinks.redis_store.PATIENCE_SECONDS", 0.2)
    put(settings, GOLD_BARS_1M, [bar_row()])
    with RedisSink(settings, server.url) as sink, server.client() as client:
        until(lambda: sink.look() == {} and "no embedded broker has run" in sink.trouble())
        assert redis_equals_gold(client, settings)
