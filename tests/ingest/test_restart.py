"""An ingest that dies while the exchange trades on: what its successor finds in Kafka alone is enough."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lakehouse.ingest import silence_probe
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import (
    events_of,
    in_kafka,
    ingest,
    kafka_of,
    recorded,
    running,
    same,
    truth_of,
    until_whole,
)
from tests.support.ingest_tools import until

pytestmark = pytest.mark.kafka


def whole(settings: Settings, simulator: SimulatorServer) -> bool:
    ids = {row[:3] for row in truth_of(simulator)}
    return in_kafka(settings) >= len(ids) and {row[:3] for row in kafka_of(settings)} == ids


def test_killed_and_started_again_it_misses_nothing(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    assert not Path(kafka_settings.lake).exists()  # the marks come from Kafka
    with ingest(kafka_settings, simulator.url) as first:
        until(lambda: in_kafka(kafka_settings) > 1000 or first.poll() is not None, 40)
        # All markets are open, and something is being repaired, when it dies.
        simulator.fault("rest_slow", seconds=2, delay=0.5)
        simulator.fault("drop", seconds=1.5, share=0.3)
        time.sleep(2)
        first.kill()
    downtime = recorded(simulator)
    until(lambda: recorded(simulator) > downtime + 1000, 20)
    with ingest(kafka_settings, simulator.url) as second:
        before = in_kafka(kafka_settings)
        until(lambda: in_kafka(kafka_settings) > before + 1000 or second.poll() is not None, 40)
        simulator.pause()
        until(lambda: whole(kafka_settings, simulator), 60)
        second.terminate()
        _, errors = second.communicate(timeout=20)
    assert second.returncode == 0, errors
    same(kafka_settings, simulator)
    assert "not repaired yet" not in errors
    rest = simulator.status()["rest"]
    assert all((one["limited"], one["banned"]) == (0, 0) for one in rest.values())
    assert rest["binance"]["calls"] < 60


def test_a_start_after_downtime_is_repaired_where_no_live_trade_follows(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence_probe, "FRESH_SECONDS", 1.0)
    monkeypatch.setattr(silence_probe, "AGAIN_SECONDS", 1.0)
    monkeypatch.setattr(silence_probe, "SAMPLE_SECONDS", 0.2)
    settings = kafka_settings.model_copy(update={"symbols": ("BTC/USDT",)})
    with running(settings, simulator) as service:
        until(lambda: all(one.acked > 50 for one in service.stats().venues), 20)
    heard = recorded(simulator)
    until(lambda: recorded(simulator) > heard + 100, 20)
    simulator.pause()  # what was traded meanwhile is all there will be
    with running(settings, simulator) as service:
        assert in_kafka(settings) < recorded(simulator) - 50
        until(lambda: whole(settings, simulator), 60)
        until_whole(settings, simulator, service)
    same(settings, simulator)


def test_a_first_start_repairs_nothing(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    """History begins with the first trade received, however much there is at the venue."""
    other = kafka_settings.model_copy(update={"topic_trades": f"{kafka_settings.topic_trades}-other"})
    with running(other, simulator) as service:
        until(lambda: service.stats().acked > 500, 20)
    with running(kafka_settings, simulator) as service:
        until(lambda: service.stats().acked > 500, 20)
        assert all(one.gaps == one.requests == 0 for one in service.stats().venues)
    assert events_of(kafka_settings, "gap_opened") == []
