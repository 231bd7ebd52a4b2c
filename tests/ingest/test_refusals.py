"""Symbols that a venue refuses, for now or for good: what ingest does, says, and brings in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.server import ServerConnection

from lakehouse.broker.topics import ensure_topics
from lakehouse.errors import SettingError
from lakehouse.exchanges.model import FeedEvent
from lakehouse.ingest import resume
from lakehouse.ingest.producer import KafkaSink
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.ingest.test_feed import events_of as feed_events
from tests.ingest.test_feed import running as feed_running
from tests.support.ingest_runs import events_of, ingest, kafka_of, running, same, until_whole
from tests.support.ingest_tools import until
from tests.support.simulator_support import client

pytestmark = pytest.mark.kafka

SYMBOLS = ("BTC/USDT", "ETH/USDT", "LOOM/USDC")
#: Each venue lacks the last symbol.
DELISTED = tuple((venue, "LOOM/USDC") for venue in ("binance", "kraken", "coinbase"))


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    options = SimulatorOptions(record=tmp_path / "record", rate=600, symbols=SYMBOLS, delisted=DELISTED)
    with SimulatorServer(options) as server:
        yield server


def subscribers(simulator: SimulatorServer) -> dict[tuple[str, str], int]:
    return {(one["venue"], one["symbol"]): one["subscribers"] for one in simulator.status()["markets"]}


# For good.


def test_one_dead_symbol_stops_no_venue(
    kafka_settings: Settings, simulator: SimulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with running(kafka_settings, simulator, symbols=SYMBOLS) as service:
        until(lambda: min(subscribers(simulator).values()) > 0, 5)
        refusals = service.wait_subscribed(10)
        assert time.monotonic() - began < 10
        assert set(refusals) == set(DELISTED)
        assert refusals["coinbase", "LOOM/USDC"] == "Failed to subscribe: LOOM-USDC is delisted"
        assert refusals["kraken", "LOOM/USDC"] == "Currency pair not supported LOOM/USDC"
        assert refusals["binance", "LOOM/USDC"] == "Invalid symbol. (code -1121)"
        assert service.settled
        requests = httpx.get(f"{simulator.url}/admin/status").json()["rest"]["binance"]["calls"]
        time.sleep(3)
        assert httpx.get(f"{simulator.url}/admin/status").json()["rest"]["binance"]["calls"] == requests
        simulator.pause()
        until_whole(kafka_settings, simulator, service)
        stats = service.stats()
        assert [(one.venue, set(one.refused), one.unsubscribed) for one in stats.venues] == [
            (venue, {"LOOM/USDC"}, {}) for venue in ("binance", "kraken", "coinbase")
        ]
        assert all(one.subscribed == ("BTC/USDT", "ETH/USDT") and not one.reconnects for one in stats.venues)
        metrics = httpx.get(f"http://127.0.0.1:{stats.metrics_port}/metrics").text
    assert 'symbols_refused{venue="binance"} 1.0' in metrics
    same(kafka_settings, simulator)
    refused = events_of(kafka_settings, "subscription_refused")
    assert sorted((one["venue"], one["symbol"]) for one in refused) == sorted(DELISTED)
    assert events_of(kafka_settings, "venue_error", "unsubscribed", "stale") == []
    lines = [record for record in caplog.records if "LOOM/USDC" in record.getMessage()]
    assert len(lines) == 3
    assert not any(record.exc_info for record in caplog.records)


def test_binance_alone_with_nothing_but_unknown_symbols_is_an_error(
    kafka_settings: Settings, simulator: SimulatorServer
) -> None:
    with running(kafka_settings, simulator, venues=["binance"], symbols=["LOOM/USDC", "NO/PE"]) as service:
        refusals = service.wait_subscribed(15)
        assert {symbol for _, symbol in refusals} == {"LOOM/USDC", "NO/PE"}
        with pytest.raises(SettingError, match=r"every symbol was refused: binance: LOOM/USDC \(Invalid symbol\."):
            service.check()


@pytest.mark.parametrize("by_name", [True, False])
def test_the_command_ends_in_one_line(kafka_settings: Settings, simulator: SimulatorServer, by_name: bool) -> None:
    named = ("--symbol", "BTC/USDT,LOOM/USDC") if by_name else ()
    settings = kafka_settings if by_name else kafka_settings.model_copy(update={"symbols": ("LOOM/USDC", "NO/PE")})
    with ingest(settings, simulator.url, "--venue", "binance", *named) as process:
        _, errors = process.communicate(timeout=40)
    assert process.returncode == SettingError.exit_code == 64
    last = errors.strip().splitlines()[-1]
    assert last.startswith(
        "lakehouse: refused by binance: LOOM/USDC (Inv" if by_name else "lakehouse: every symbol was"
    )
    assert "Traceback" not in errors


def test_a_name_that_only_rest_does_not_know_stays_subscribed(kafka_settings: Settings) -> None:
    def script(server: ServerConnection) -> None:
        server.recv()
        server.send('{"result":null,"id":1}')
        trade = {"e": "trade", "E": 1672515782136, "s": "BTCUSDT", "t": 1, "p": "1.0", "q": "2.0", "m": True}
        server.send(json.dumps({"stream": "btcusdt@trade", "data": trade | {"T": 1672515782136}}))
        server.recv()

    with feed_running(kafka_settings, "binance", script, ["BTC/USDT", "FOO/USDT"]) as feed:
        until(lambda: feed.watched.received("BTC/USDT") == 1)
        until(lambda: not feed.settled)  # FOO/USDT is acknowledged, which proves nothing
        for _ in range(2):
            feed.watched.unlisted("BTC/USDT", "Invalid symbol.")
            feed.watched.unlisted("FOO/USDT", "Invalid symbol.")
        assert feed.wanted == ("BTC/USDT",)
        assert feed.subscribed == {"BTC/USDT"}
        assert feed.settled
    told = [(one["event"], one["symbol"]) for one in feed_events(kafka_settings) if "REST" in one["detail"]]
    assert told == [("venue_error", "BTC/USDT")] * 2
    refused = [one["symbol"] for one in feed_events(kafka_settings) if one["event"] == "subscription_refused"]
    assert refused == ["FOO/USDT"]


# For now.


@pytest.mark.parametrize("how", ["nameless", "bare", "named"])
def test_what_traded_while_kraken_refused_is_a_gap_and_is_repaired(
    kafka_settings: Settings, simulator: SimulatorServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with client(simulator, "/kraken/v2") as other:  # opens the market
        other.send({"method": "subscribe", "params": {"channel": "trade", "symbol": ["ETH/USDT"], "snapshot": False}})
        until(lambda: simulator.record.count("kraken", "ETH/USDT") > 0)
        simulator.fault("refuse_passing", venue="kraken", symbol="ETH/USDT", seconds=12, how=how, cut=False)
        refused_until = time.time_ns() // 1000 + 12_000_000
        with running(kafka_settings, simulator, venues=["kraken"], symbols=SYMBOLS[:2]) as service:
            until(lambda: bool(service.stats().venues[0].unsubscribed), 5)
            (symbol,) = service.stats().venues[0].unsubscribed
            assert symbol == "ETH/USDT"
            until(lambda: service.stats().venues[0].subscribed == ("BTC/USDT", "ETH/USDT"), 70)
            until(lambda: service.stats().venues[0].gaps > 0 and not service.stats().venues[0].open_ids, 30)
            assert service.stats().venues[0].unsubscribed == {}
            simulator.pause()
            # From the first look at REST on it is ours; the gap begins there.
            gaps = [one for one in events_of(kafka_settings, "gap_opened") if one["symbol"] == "ETH/USDT"]
            first = min(one["first_id"] for one in gaps)
            # A look found it while the venue still refused, and not the first trade after the refusal.
            recorded = [one for one in simulator.record.iter("kraken", "ETH/USDT") if one.trade_id >= first]
            assert recorded[0].ts_event < refused_until
            wanted = [one.trade_id for one in recorded]
            until(lambda: set(wanted) <= ids(kafka_settings, "ETH/USDT"), 20)
            assert service.stats().venues[0].repaired > 0
            assert service.stats().venues[0].reconnects == 0
    told = events_of(kafka_settings, "unsubscribed")
    assert [(one["venue"], one["symbol"]) for one in told] == [("kraken", "ETH/USDT")]
    assert told[0]["detail"] != ""
    assert len([one for one in caplog.records if "is not subscribed" in one.getMessage()]) == 1
    assert events_of(kafka_settings, "subscription_refused", "venue_error") == []


def ids(settings: Settings, symbol: str) -> set[int]:
    return {row[2] for row in kafka_of(settings) if row[1] == symbol}


@pytest.mark.parametrize("venue", ["binance", "kraken", "coinbase"])
def test_a_venue_that_refuses_everything_for_a_while_gets_all_symbols_back(
    kafka_settings: Settings, simulator: SimulatorServer, venue: str
) -> None:
    with running(kafka_settings, simulator, venues=[venue], symbols=SYMBOLS[:2]) as service:
        service.wait_subscribed(10)
        until(lambda: service.stats().acked > 100, 20)
        simulator.fault("refuse_passing", venue=venue, seconds=8)  # cuts first
        until(lambda: not service.stats().venues[0].subscribed)
        until(lambda: len(service.stats().venues[0].subscribed) == 2, 60)
        simulator.pause()
        until_whole(kafka_settings, simulator, service)
        assert service.stats().venues[0].refused == {}
    same(kafka_settings, simulator)
    told = [one["symbol"] for one in events_of(kafka_settings, "unsubscribed")]
    assert sorted(told) == ["BTC/USDT", "ETH/USDT"]  # once each, however many connections it took
    assert events_of(kafka_settings, "subscription_refused") == []


def test_a_socket_is_not_changed_for_one_that_lacks_a_symbol(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.rotation.SUCCESSOR_SECONDS", 3.0)
    with running(kafka_settings, simulator, venues=["kraken"], symbols=SYMBOLS[:2]) as service:
        service.wait_subscribed(10)
        simulator.fault("refuse_passing", venue="kraken", symbol="ETH/USDT", seconds=600, cut=False)
        (rotation,) = service.rotate()
        assert rotation.done.wait(15)
        assert rotation.problem == "the successor was not subscribed within 3 s"
        assert service.stats().venues[0].subscribed == ("BTC/USDT", "ETH/USDT")
        simulator.end_faults()
        (rotation,) = service.rotate()
        assert rotation.done.wait(15)
        assert rotation.problem == ""
        simulator.pause()
        until_whole(kafka_settings, simulator, service)
    assert events_of(kafka_settings, "unsubscribed", "gap_opened") == []


def test_a_mark_of_which_only_the_gap_is_known_outlives_the_process(kafka_settings: Settings) -> None:
    """Killed between `gap_opened` and the first trade: the next start goes on with the gap."""
    ensure_topics(kafka_settings)
    sink = KafkaSink(kafka_settings.bootstrap(), *kafka_settings.topics, partitions=kafka_settings.topic_partitions)
    sink.event(FeedEvent("kraken", "gap_opened", 1, "x", "ETH/USDT", 11, 20))
    assert sink.flush(time.monotonic() + 10) == 0
    found = resume.read(kafka_settings, [("kraken", "ETH/USDT"), ("kraken", "BTC/USDT")])
    assert set(found) == {("kraken", "ETH/USDT")}
    marked = found["kraken", "ETH/USDT"]
    assert (marked.trade_id, [(one.first_id, one.last_id) for one in marked.gaps]) == (20, [(11, 20)])
