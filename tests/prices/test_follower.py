"""Latest prices, from a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import add_partitions
from lakehouse.exchanges.model import Trade, encode
from lakehouse.prices import follower as prices_module
from lakehouse.prices.follower import Prices
from lakehouse.settings import Settings
from tests.conftest import SettingsFactory
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import serving

pytestmark = pytest.mark.kafka
NOW = 1_793_534_400_123_456


def trade(trade_id: int, price: str = "100.5", **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "native_symbol": "BTCUSDT",
        "size": "0.25",
        "side": "buy",
        "ts_event": NOW,
        "ts_ingest": NOW + 1,
        "source": "live",
        "raw": "{}",
    }
    return encode(Trade(trade_id=trade_id, price=price, **(values | fields)))


def send(settings: Settings, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap()})
    for value in values:
        producer.produce(settings.topic_trades, value, key=b"BTC/USDT")
    assert producer.flush(30) == 0


def until(found: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_prices_of_before_and_of_now(kafka_settings: Settings) -> None:
    send(
        kafka_settings,
        trade(7, "1.10"),
        trade(8, "2.20"),
        trade(3, "9.99", source="repair"),
        b"no trade",
        b'{"raw":' + b"[" * 100_000,
        trade(5, "3.30", venue="kraken", symbol="ETH/USD"),
    )
    with serving(kafka_settings, UNLIMITED) as client:
        until(lambda: len(client.get("/v1/price").json()["rows"]) == 2)
        found = client.get("/v1/price").json()
        assert (found["connected"], found["reason"]) == (True, "")
        assert found["rows"][0] == {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "price": "2.20",
            "size": "0.25",
            "side": "buy",
            "trade_id": 8,
            "ts_event": "2026-11-01T12:00:00.123456Z",
            "ts_ingest": "2026-11-01T12:00:00.123457Z",
        }
        chosen = client.get("/v1/price", params={"venue": "kraken", "symbol": "eth-usd"}).json()["rows"]
        assert [row["price"] for row in chosen] == ["3.30"]
        assert client.get("/v1/price", params={"venue": "coinbase"}).json()["rows"] == []
        rows = client.get("/v1/price", headers={"Accept": "text/csv"})
        assert rows.headers["x-connected"] == "true"
        assert len(rows.text.splitlines()) == 3
        send(kafka_settings, trade(9, "4.40"))
        until(lambda: bool(client.get("/v1/price").json()["rows"][0]["price"] == "4.40"), 5)
        assert client.get("/v1/health").status_code == 503  # there is no lake


def test_it_begins_shortly_before_the_end(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_module, "BEGIN_BEFORE", 5)
    send(kafka_settings, trade(1, symbol="OLD/USD"), *(trade(number) for number in range(2, 30)))
    prices = Prices(kafka_settings)
    prices.start()
    try:
        until(lambda: [one.trade_id for one in prices.latest()] == [29])
    finally:
        prices.stop()


def test_a_broker_that_is_away_is_said_and_found_again(
    settings_factory: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices_module, "LOOK_SECONDS", 0.5)
    settings = settings_factory()
    prices = Prices(settings)
    prices.start()
    try:
        until(lambda: "no embedded broker has run" in prices.feed.reason)
        with EmbeddedBroker(settings):
            until(lambda: prices.feed.reason == "no topic crypto.trades yet")
            assert not prices.feed.connected
            from lakehouse.broker.topics import ensure_topics

            ensure_topics(settings)
            until(lambda: prices.feed.connected)
            send(settings, trade(1, "1.5"))
            until(lambda: [one.price for one in prices.latest()] == ["1.5"])
        until(lambda: not prices.feed.connected)
        assert [one.price for one in prices.latest()] == ["1.5"]
        with EmbeddedBroker(settings):
            until(lambda: prices.feed.connected, 60)
            send(settings, trade(2, "2.5"))
            until(lambda: [one.price for one in prices.latest()] == ["2.5"], 60)
    finally:
        prices.stop()


def test_partitions_that_come_later_are_read_from_their_first_message(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a live stream would lack what a market that has moved there traded before the follower looked."""
    monkeypatch.setattr(prices_module, "BEGIN_BEFORE", 5)
    monkeypatch.setattr(prices_module, "LOOK_SECONDS", 0.5)
    taken: list[tuple[int, int]] = []

    class Listener:
        def expect(self, partitions: int) -> None: ...

        def begin(self, partition: int, offset: int) -> None: ...

        def put(self, messages: list[tuple[int, int, Any]]) -> None:
            taken.extend((partition, one.trade_id) for partition, _, one in messages)

    def place(partition: int, ids: range) -> None:
        producer = Producer({"bootstrap.servers": kafka_settings.bootstrap(), "log_level": 0})
        for number in ids:
            producer.produce(kafka_settings.topic_trades, trade(number), b"BTC/USDT", partition)
        assert producer.flush(30) == 0

    place(0, range(100))
    prices = Prices(kafka_settings, Listener())
    prices.start()
    try:
        until(lambda: prices.has_caught_up)
        add_partitions(kafka_settings, 8)
        place(7, range(100, 150))
        until(lambda: [one.trade_id for one in prices.latest()] == [149])
    finally:
        prices.stop()
    assert taken == [*((0, number) for number in range(95, 100)), *((7, number) for number in range(100, 150))]
