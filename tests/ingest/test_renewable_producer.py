"""Fatal errors of the Kafka producer: real ones of librdkafka on the real broker, and those that only Python shows."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakehouse.broker.partitions import partition_of
from lakehouse.errors import TerminalError
from lakehouse.exchanges.model import FeedEvent, Rejected, Trade
from lakehouse.ingest import renewable_producer as module
from lakehouse.ingest.backoff import Steps
from lakehouse.ingest.metrics import Counters
from lakehouse.ingest.producer import KafkaSink, QueueBlockedError
from lakehouse.ingest.renewable_producer import RenewedProducer
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import recorded, running, truth_of
from tests.support.ingest_tools import messages, partitions_of, until


def break_for_real(producer: RenewedProducer, code: int = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER) -> None:
    """A fatal error inside librdkafka, by its own hook for tests, which its Python client does not show."""
    folder = Path(confluent_kafka.__file__).parent
    (library,) = [*folder.parent.glob("confluent_kafka.libs/librdkafka*"), *folder.glob(".dylibs/librdkafka*")]
    hook = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error
    hook.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    # The client's object is a Python object's head, then the pointer to librdkafka's.
    handle = ctypes.c_void_p.from_address(id(producer._producer) + object.__basicsize__)
    assert hook(handle, code, b"broken by a test") in (0, KafkaError._PREV_IN_PROGRESS)


def trade(trade_id: int, symbol: str = "BTC/USDT") -> Trade:
    now = time.time_ns() // 1000
    return Trade("kraken", symbol, symbol, trade_id, "1.50", "0.10", "buy", now, now, "live", '{"t":1}')


def sink_of(settings: Settings) -> KafkaSink:
    return KafkaSink(settings.bootstrap(), *settings.topics, partitions=settings.topic_partitions)


def polled(producer: KafkaSink | RenewedProducer, condition: Callable[[], bool]) -> None:
    """Poll until a condition is true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        producer.poll(0.01)


def firsts(ids: list[int]) -> list[int]:
    """Each id once, in the order of its first coming."""
    return list(dict.fromkeys(ids))


@pytest.mark.kafka
def test_fatal_errors_lose_nothing_and_keep_the_order(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.producer.QUEUE_MESSAGES", 500)
    monkeypatch.setattr("lakehouse.ingest.producer.LINGER_MS", 500)  # so that there is something to give back
    sink, counters = sink_of(kafka_settings), Counters()
    symbols = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]

    def send(symbol: str) -> None:
        flow = counters.symbol("kraken", symbol)
        for trade_id in range(1500):
            sink.trade(trade(trade_id, symbol), flow)

    threads = [threading.Thread(target=send, args=(symbol,)) for symbol in symbols]
    for thread in threads:
        thread.start()
    for acked in (400, 2000):
        while sum(one.acked for one in counters.of_venue("kraken")) < acked:
            sink.poll(0.01)
        break_for_real(sink._producer)
        until(lambda: "a new one in" in sink.trouble)
    for thread in threads:
        thread.join()
    sink.rejected(Rejected("kraken", "not_json", "found x", "x", 1))
    sink.event(FeedEvent("kraken", "connected", 1, "kraken-1"))
    break_for_real(sink._producer)
    assert sink.flush(time.monotonic() + 30) == 0
    sink.check()
    assert (sink.trouble, sink.unacknowledged) == ("", 0)
    found = messages(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    for symbol in symbols:
        assert firsts([value["trade_id"] for key, value in found if key == symbol]) == list(range(1500))
        flow = counters.symbol("kraken", symbol)
        assert (flow.produced, flow.acked, flow.acked_mark) == (1500, 1500, 1499)
    markets = {("kraken", symbol): {partition_of("kraken", symbol, 6)} for symbol in symbols}
    assert partitions_of(kafka_settings.bootstrap(), kafka_settings.topic_trades) == markets
    assert {key for key, _ in messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected)} == {"kraken"}
    assert messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)


@pytest.mark.kafka
def test_a_whole_ingest_goes_on_over_a_fatal_error(kafka_settings: Settings, tmp_path: Path) -> None:
    with (
        SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=600)) as simulator,
        running(kafka_settings, simulator) as service,
    ):
        assert service.wait_subscribed(10) == {}
        for acked in (500, 1500):
            until(lambda acked=acked: service.stats().acked > acked, 20)  # type: ignore[misc]
            assert service._sink is not None
            break_for_real(service._sink._producer)
            until(lambda: "a new one in" in service.stats().kafka_trouble)
            service.check()
        until(lambda: service.stats().acked > 2500, 30)
        simulator.pause()
        count = recorded(simulator)
        until(lambda: service.stats().acked == count, 20)
        service.check()
        stats = service.stats()
        truth = truth_of(simulator)
    assert [(venue.gaps, venue.reconnects) for venue in stats.venues] == [(0, 0)] * 3, "no socket noticed"
    found = messages(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    assert {(value["venue"], value["symbol"], value["trade_id"]) for _, value in found} == {row[:3] for row in truth}


class Breaking:
    """A producer that breaks as Python sees it: the nth produce() raises, and every one after it."""

    def __init__(self, nth: int, error: KafkaError) -> None:
        self.count = itertools.count(1)
        self.nth, self.error = nth, error
        self.made = 0

    def __call__(self, configuration: dict[str, Any], logger: Any) -> Any:
        self.made += 1
        real = Producer(configuration, logger=logger)
        if self.made > 1:
            return real
        outer, is_over = self, threading.Event()

        class Wrapped:
            def produce(self, *arguments: Any, **named: Any) -> None:
                if is_over.is_set() or next(outer.count) >= outer.nth:
                    is_over.set()
                    raise KafkaException(outer.error)
                real.produce(*arguments, **named)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        return Wrapped()


@pytest.mark.kafka
@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError._FATAL, fatal=True),
        KafkaError(KafkaError._FATAL),  # as produce() really raises it
        KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, fatal=True),
    ],
)
@pytest.mark.parametrize("nth", [1, 40])
def test_produce_that_raises_a_fatal_error(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch, nth: int, error: KafkaError
) -> None:
    breaking = Breaking(nth, error)
    monkeypatch.setattr(module, "Producer", breaking)
    sink, flow = sink_of(kafka_settings), Counters().symbol("kraken", "BTC/USDT")
    began = time.monotonic()
    for trade_id in range(100):
        sink.trade(trade(trade_id), flow)
    assert sink.flush(time.monotonic() + 20) == 0
    assert time.monotonic() - began < 15, "seconds, not the supervisor's five minutes"
    sink.check()
    assert breaking.made == 2
    found = messages(kafka_settings.bootstrap(), kafka_settings.topic_trades)
    assert firsts([value["trade_id"] for _, value in found]) == list(range(100))
    assert (flow.produced, flow.acked) == (100, 100)


@pytest.mark.kafka
def test_a_fatal_error_for_good_is_terminal(kafka_settings: Settings) -> None:
    sink, flow = sink_of(kafka_settings), Counters().symbol("kraken", "BTC/USDT")
    sink.trade(trade(1), flow)
    break_for_real(sink._producer, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    polled(sink, lambda: sink._producer.failure is not None)
    with pytest.raises(TerminalError, match=r"refused a message for good: .*broken by a test"):
        sink.check()
    with pytest.raises(QueueBlockedError):
        sink.trade(trade(2), flow)
    assert sink.flush(time.monotonic() + 5) == 2 - flow.acked


@pytest.mark.kafka
def test_what_is_given_up_at_the_end_does_not_come_later(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.producer.LINGER_MS", 5000)
    monkeypatch.setattr(module, "RENEWALS", Steps(60.0, 60.0))
    sink, flow = sink_of(kafka_settings), Counters().symbol("kraken", "BTC/USDT")
    for trade_id in range(3):
        sink.trade(trade(trade_id), flow)
    break_for_real(sink._producer)
    began = time.monotonic()
    assert sink.flush(began + 1.0) == 3
    assert time.monotonic() - began < 4
    sink._producer._renew_at = 0.0
    broken = sink._producer._producer
    for _ in range(5):
        sink.poll(0.05)
    assert sink._producer._producer is broken, "nobody sends them any more"
    assert messages(kafka_settings.bootstrap(), kafka_settings.topic_trades) == []
    assert sink.unacknowledged == 3


def report(producer: RenewedProducer, number: int, code: int, acknowledged: Callable[[], None] = lambda: None) -> None:
    producer._handed_over = max(producer._handed_over, number)
    producer._delivered(number, acknowledged, KafkaError(code), Message(topic="t", value=b"v", key=b"k"))


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._FATAL,
    ],
)
def test_a_message_that_comes_back_before_the_fatal_error_is_told_is_kept(code: int) -> None:
    producer = RenewedProducer("127.0.0.1:9", {})
    report(producer, 1, code)
    assert (producer.unacknowledged, len(producer._unsent), producer.failure) == (1, 1, None)
    assert "a new one in" in producer.trouble


def test_any_other_error_of_a_message_is_terminal_unless_the_producer_is_broken() -> None:
    producer = RenewedProducer("127.0.0.1:9", {})
    report(producer, 1, KafkaError.INVALID_REQUIRED_ACKS)
    assert isinstance(producer.failure, TerminalError)
    broken = RenewedProducer("127.0.0.1:9", {})
    broken._break(KafkaError(KafkaError._FATAL))
    report(broken, 1, KafkaError._MSG_TIMED_OUT)
    assert (broken.unacknowledged, broken.failure) == (1, None)


def test_the_cause_is_told_when_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    producer = RenewedProducer("127.0.0.1:9", {})
    producer._break(KafkaError(KafkaError._PURGE_QUEUE))
    producer._break(KafkaError(KafkaError.UNKNOWN_PRODUCER_ID, "it forgot us", fatal=True))
    producer._break(KafkaError(KafkaError._PURGE_QUEUE))
    assert "the producer broke: it forgot us; a new one in" in producer.trouble
    assert len(caplog.messages) == 2


def test_renewals_that_fail_again_and_again_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWALS", Steps(0.02, 0.3))
    producer = RenewedProducer("127.0.0.1:9", {})
    waits = []
    for _ in range(6):
        producer._break(KafkaError(KafkaError._FATAL, fatal=True))
        waits.append(producer._renew_at - time.monotonic())
        before = producer._producer
        polled(producer, lambda before=before: producer._producer is not before)  # type: ignore[misc]
    assert waits[-1] > 3 * waits[0]
    assert waits[-1] <= 0.3
