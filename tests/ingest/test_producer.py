"""The Kafka sink, on the real broker."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from lakehouse.broker.partitions import partition_of
from lakehouse.broker.topics import add_partitions
from lakehouse.exchanges.model import FeedEvent, Rejected, Trade
from lakehouse.ingest import producer as module
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError
from lakehouse.settings import Settings
from tests.support.ingest_tools import messages, partitions_of


def trade(trade_id: int, symbol: str = "BTC/USDT", raw: str = '{"t":1}') -> Trade:
    now = time.time_ns() // 1000
    return Trade("kraken", symbol, symbol, trade_id, "1.50", "0.10", "buy", now, now, "live", raw)


def sink_of(settings: Settings) -> KafkaSink:
    return KafkaSink(settings.bootstrap(), *settings.topics, partitions=settings.topic_partitions)


@pytest.fixture
def unreachable() -> KafkaSink:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return KafkaSink(f"127.0.0.1:{unused.getsockname()[1]}", "trades", "rejected", "events", partitions=1)


@pytest.mark.kafka
def test_everything_arrives_keyed_and_in_order_through_a_small_queue(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MESSAGES", 50)  # full most of the time: it blocks and drops nothing
    sink, counters = sink_of(kafka_settings), Counters()
    symbols = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]

    def send(symbol: str) -> None:
        flow = counters.symbol("kraken", symbol)
        for trade_id in range(1000):
            sink.trade(trade(trade_id, symbol), flow)

    threads = [threading.Thread(target=send, args=(symbol,)) for symbol in symbols]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.event(FeedEvent("kraken", "connected", 1, "kraken-1"))
    sink.rejected(Rejected("kraken", "not_json", "found x", "x", 1))
    assert sink.flush(time.monotonic() + 20) == 0
    sink.check()
    found = messages(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    for symbol in symbols:
        assert [value["trade_id"] for key, value in found if key == symbol] == list(range(1000))
        flow = counters.symbol("kraken", symbol)
        assert (flow.produced, flow.acked, flow.acked_mark) == (1000, 1000, 999)
        assert sum(flow.latency_counts) == 1000
    markets = {("kraken", symbol): {partition_of("kraken", symbol, 6)} for symbol in symbols}
    assert partitions_of(kafka_settings.bootstrap(), kafka_settings.topic_trades) == markets
    assert [key for key, _ in messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected)] == ["kraken"]
    ((key, event),) = messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)
    assert (key, event["event"]) == ("kraken", "connected")


@pytest.mark.kafka
def test_a_market_stays_in_its_partition_while_the_topic_gets_more(kafka_settings: Settings) -> None:
    """Else a crash could lose an older trade, still queued for one partition, behind a newer one in another."""
    sink, flow = sink_of(kafka_settings), Counters().symbol("kraken", "BTC/USDT")
    for trade_id in range(3):
        sink.trade(trade(trade_id), flow)
        assert sink.flush(time.monotonic() + 20) == 0
        add_partitions(kafka_settings, 7 + trade_id)
    sink.repair(trade(0), flow, lambda: None)
    sink.verbatim(kafka_settings.topic_trades, b'{"venue":"kraken","symbol":"BTC/USDT"}', b"k", ("kraken", "BTC/USDT"))
    assert sink.flush(time.monotonic() + 20) == 0
    places = partitions_of(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    assert places == {("kraken", "BTC/USDT"): {4}}
    later = KafkaSink(kafka_settings.bootstrap(), *kafka_settings.topics, partitions=9)
    later.trade(trade(3), flow)
    assert later.flush(time.monotonic() + 20) == 0
    places = partitions_of(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    assert places == {("kraken", "BTC/USDT"): {4, partition_of("kraken", "BTC/USDT", 9)}}


@pytest.mark.kafka
def test_what_kafka_would_refuse_for_its_size_is_rejected_not_lost(kafka_settings: Settings) -> None:
    sink, flow = sink_of(kafka_settings), Counters().symbol("kraken", "BTC/USDT")
    sink.trade(trade(1, raw="ä" * 2_000_000), flow)
    sink.trade(trade(2), flow)
    assert sink.flush(time.monotonic() + 20) == 0
    sink.check()
    ((_, kept),) = messages(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    assert kept["trade_id"] == 2
    ((_, rejected),) = messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected)
    assert rejected["reason"] == "too_large"
    assert rejected["raw"] == "ä" * module.RAW_LIMIT
    assert "2000000" in rejected["detail"]
    assert (flow.produced, flow.acked) == (1, 1)


def test_nothing_is_acknowledged_while_the_broker_is_away(unreachable: KafkaSink) -> None:
    flow = Counters().symbol("kraken", "BTC/USDT")
    for trade_id in range(3):
        unreachable.trade(trade(trade_id), flow)
    began = time.monotonic()
    assert unreachable.flush(began + 0.3) == 3
    assert time.monotonic() - began < 3
    assert (flow.produced, flow.acked, flow.acked_mark) == (3, 0, None)
    assert "refused" in unreachable.trouble or "down" in unreachable.trouble
    unreachable.check()  # a broker that is away is not a failure of the producer


def test_a_full_queue_blocks_until_the_service_stops(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(module, "QUEUE_MESSAGES", 5)
    sink: KafkaSink = request.getfixturevalue("unreachable")
    flow = Counters().symbol("kraken", "BTC/USDT")
    outcome: list[BaseException] = []

    def send() -> None:
        try:
            for trade_id in range(100):
                sink.trade(trade(trade_id), flow)
        except QueueBlockedError as error:
            outcome.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    assert sink.unacknowledged <= 6
    sink.stop_waiting()
    thread.join(2)
    assert len(outcome) == 1
    assert sink.flush(time.monotonic() + 0.2) == 6  # five in the queue, one that found no room
