"""The whole way, simulator → ingest → Kafka, compared trade by trade with the simulator's own record."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from lakehouse.broker.topics import end_offsets
from lakehouse.errors import BrokerUnavailableError, SettingError
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.ingest import service as module
from lakehouse.ingest.service import IngestService, per_socket
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.conftest import SettingsFactory
from tests.ingest_tools import messages, until


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=600)) as server:
        yield server


@contextmanager
def running(settings: Settings, simulator: SimulatorServer, **choices: object) -> Iterator[IngestService]:
    service = IngestService(settings.model_copy(update={"simulator_url": simulator.url}), **choices)  # type: ignore[arg-type]
    service.start()
    try:
        yield service
    finally:
        assert service.stop(10) == 0


Truth = Counter[tuple[str, str, int, str, str, str, int]]


def keys_of(simulator: SimulatorServer) -> list[tuple[str, str]]:
    return simulator.record.keys()


def truth_of(simulator: SimulatorServer) -> Truth:
    return Counter(
        (true.venue, true.symbol, true.trade_id, f"{true.price:f}", f"{true.size:f}", true.side, true.ts_event)
        for key in keys_of(simulator)
        for true in simulator.record.iter(*key)
    )


def kafka_of(settings: Settings) -> Truth:
    found: Truth = Counter()
    for key, value in messages(settings.bootstrap(), settings.topic_trades):
        assert key == value["symbol"]
        price, size = (f"{Decimal(value[name]):f}" for name in ("price", "size"))
        found[value["venue"], key, value["trade_id"], price, size, value["side"], value["ts_event"]] += 1
    return found


def recorded(simulator: SimulatorServer) -> int:
    return sum(simulator.record.count(*key) for key in keys_of(simulator))


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
def test_an_exchange_that_restarts_leaves_a_known_gap_and_nothing_else_missing(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    options = SimulatorOptions(record=tmp_path / "record", rate=300, venues=("binance",))
    first = SimulatorServer(options).start()
    port = int(first.url.rsplit(":", 1)[1])
    with running(kafka_settings, first, venues=["binance"], topic=kafka_settings.topic_trades) as service:
        until(lambda: service.stats().acked > 200)
        first.stop()
        until(lambda: not service.stats().venues[0].connected)
        second = SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=300, venues=("binance",), port=port))
        with second:
            before = service.stats().acked
            until(lambda: service.stats().acked > before + 200, 20)
            second.pause()
            truth = truth_of(second)
            until(lambda: service.stats().acked + service.stats().venues[0].missing == truth.total())
            stats = service.stats()
    assert stats.venues[0].reconnects >= 1
    missing = truth - kafka_of(kafka_settings)
    events = [value for _, value in messages(kafka_settings.bootstrap(), kafka_settings.topic_feed_events)]
    gaps = {
        (event["symbol"], trade_id)
        for event in events
        if event["event"] == "gap_opened"
        for trade_id in range(event["first_id"], event["last_id"] + 1)
    }
    assert {(symbol, trade_id) for _, symbol, trade_id, *_ in missing} == gaps
    assert stats.venues[0].missing == len(gaps)


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


def in_kafka(settings: Settings) -> int:
    return sum(end_offsets(settings.bootstrap(), [settings.topic_trades])[settings.topic_trades].values())


def ingest(settings: Settings, simulator_url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lakehouse", "ingest", "--bootstrap", settings.bootstrap(), "--url", simulator_url]
    environment = {**os.environ, **settings.environment()}
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_cleanly_on_a_signal(
    kafka_settings: Settings, simulator: SimulatorServer, number: signal.Signals
) -> None:
    process = ingest(kafka_settings, simulator.url, "--venue", "binance,kraken", "--pair", "XBT/USDT")
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
    process = ingest(kafka_settings, simulator.url, "--venue", "kraken", "--symbol", "BTC/USDT,FOO/BAR")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == SettingError.exit_code
    last = errors.strip().splitlines()[-1]
    assert last.startswith("lakehouse: refused by kraken: FOO/BAR (Currency pair not supported FOO/BAR)")
    assert "Traceback" not in errors
