"""The whole way, simulator → ingest → Kafka, compared trade by trade with the simulator's own record."""

from __future__ import annotations

import signal
import socket
from collections import Counter

import httpx
import pytest

from lakehouse.errors import BrokerUnavailableError, SettingError
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.ingest import service as module
from lakehouse.ingest.service import IngestService, per_socket
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.conftest import SettingsFactory
from tests.support.ingest_runs import in_kafka, ingest, kafka_of, keys_of, recorded, running, truth_of
from tests.support.ingest_tools import messages, until


@pytest.mark.kafka
def test_kafka_holds_exactly_what_the_exchange_recorded(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator) as service:
        assert service.wait_subscribed(10) == {}
        assert service.settled
        until(lambda: service.stats().acked > 1500, 20)
        simulator.pause()
        count = recorded(simulator)
        until(lambda: service.stats().acked == count)
        service.check()
        stats = service.stats()
        metrics = httpx.get(f"http://127.0.0.1:{stats.metrics_port}/metrics").text
    assert kafka_of(kafka_settings) == truth_of(simulator)
    for venue in stats.venues:
        assert venue.connected
        assert venue.subscribed == tuple(sorted(kafka_settings.symbols))
        assert venue.produced == venue.acked > 0
        assert (venue.duplicates, venue.rejected, venue.gaps, venue.reconnects, venue.refused) == (0, 0, 0, 0, {})
        assert (venue.repaired, venue.unavailable, venue.open_ids, venue.requests, venue.rotations) == (0, 0, 0, 0, 0)
        assert venue.last_message_age is not None
        assert venue.last_message_age < 30
        acked = sum(simulator.record.count(venue.venue, symbol) for symbol in kafka_settings.symbols)
        assert venue.acked == acked
    last = {key: max(true.trade_id for true in simulator.record.iter(*key)) for key in keys_of(simulator)}
    assert service.acked_marks() == last
    btc = simulator.record.count("binance", "BTC/USDT")
    assert f'events_produced_total{{symbol="BTC/USDT",venue="binance"}} {btc}.0' in metrics
    assert f'event_production_latency_seconds_count{{symbol="BTC/USDT",venue="binance"}} {btc}.0' in metrics
    assert messages(kafka_settings.bootstrap(), kafka_settings.topic_rejected) == []
    # The end is orderly, and told.
    events = [value for _, value in messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)]
    assert Counter(event["event"] for event in events) == {"connected": 3, "subscribed": 9, "disconnected": 3}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{stats.metrics_port}/metrics")


@pytest.mark.kafka
def test_a_refused_symbol_is_an_event_and_the_others_go_on(
    kafka_settings: Settings, simulator: SimulatorServer
) -> None:
    with running(kafka_settings, simulator, venues=["kraken", "coinbase"], symbols=["XBT/USDT", "FOO/BAR"]) as service:
        refusals = service.wait_subscribed(10)
        assert set(refusals) == {("kraken", "FOO/BAR"), ("coinbase", "FOO/BAR")}
        service.check()
        until(lambda: all(venue.acked > 10 for venue in service.stats().venues))
        assert service.settled
    events = [value for _, value in messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)]
    refused = [event["symbol"] for event in events if event["event"] == "subscription_refused"]
    assert refused == ["FOO/BAR", "FOO/BAR"]


@pytest.mark.kafka
def test_every_symbol_refused_is_an_error(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator, venues=["kraken"], symbols=["FOO/BAR"]) as service:
        service.wait_subscribed(10)
        with pytest.raises(SettingError, match="every symbol was refused: kraken: FOO/BAR"):
            service.check()


def test_a_broker_that_is_down_is_one_line_and_opens_nothing(
    settings_factory: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BROKER_SECONDS", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        service = IngestService(settings_factory(bootstrap_servers=f"127.0.0.1:{unused.getsockname()[1]}"))
        with pytest.raises(BrokerUnavailableError, match="no Kafka broker answered"):
            service.start()
    assert service.stop(1) == 0


def test_settings_that_cannot_be_used(settings_factory: SettingsFactory) -> None:
    settings = settings_factory()
    with pytest.raises(SettingError, match="unknown venue 'mtgox'"):
        IngestService(settings, venues=["mtgox"])
    with pytest.raises(SettingError, match="BASE/QUOTE"):
        IngestService(settings, symbols=["BTCUSDT"])


def test_symbols_are_split_only_where_the_venue_demands_it() -> None:
    symbols = [f"A{number}/USDT" for number in range(2500)]
    parts = list(per_socket(find_venue("binance"), symbols))
    assert [symbol for part in parts for symbol in part] == symbols
    assert len(parts) == 4
    assert list(per_socket(find_venue("kraken"), symbols)) == [symbols]


# The command line, as a process.


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_cleanly_on_a_signal(
    kafka_settings: Settings, simulator: SimulatorServer, number: signal.Signals
) -> None:
    with ingest(kafka_settings, simulator.url, "--venue", "binance,kraken", "--pair", "XBT/USDT") as process:
        until(lambda: recorded(simulator) > 200 or process.poll() is not None, 30)
        simulator.pause()
        until(lambda: in_kafka(kafka_settings) == recorded(simulator))
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    count = recorded(simulator)
    assert f"ingest stopped: {count:,} trades, {count:,} acknowledged by Kafka" in errors
    assert kafka_of(kafka_settings) == truth_of(simulator)
    assert "Traceback" not in errors


@pytest.mark.kafka
def test_the_command_refuses_an_unknown_symbol_in_one_line(
    kafka_settings: Settings, simulator: SimulatorServer
) -> None:
    with ingest(kafka_settings, simulator.url, "--venue", "kraken", "--symbol", "BTC/USDT,FOO/BAR") as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == SettingError.exit_code
    last = errors.strip().splitlines()[-1]
    assert last.startswith("lakehouse: refused by kraken: FOO/BAR (Currency pair not supported FOO/BAR)")
    assert "Traceback" not in errors
