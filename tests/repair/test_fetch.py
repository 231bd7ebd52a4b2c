"""Missed trades are fetched: simulator → ingest → Kafka with faults, compared trade by trade with the record."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import (
    events_of,
    ids_of,
    kafka_of,
    running,
    same,
    until_whole,
)
from tests.support.ingest_tools import until
from tests.support.repair_market import drop, flowing, limits_are_kept, short_pauses, traded
from tests.support.simulator_support import done

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    short_pauses(monkeypatch)


@pytest.fixture
def one_symbol(kafka_settings: Settings) -> Settings:
    """For what is the same with three: Kraken's budget is a request in 1.5 s, and each symbol needs its own."""
    return kafka_settings.model_copy(update={"symbols": ("BTC/USDT",)})


def test_dropped_trades_are_fetched_and_told(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator) as service:
        flowing(service)
        drop(simulator, 0.2, 1000)
        simulator.pause()
        # The last trades of the pause may be among the dropped: nothing would show that before the next look.
        simulator.resume()
        flowing(service)
        simulator.pause()
        until_whole(kafka_settings, simulator, service, 60)
        stats = service.stats()
        assert all(one.repaired > 0 and one.requests > 0 and one.open_ids == 0 for one in stats.venues)
        assert all(one.repaired + one.unavailable <= one.missing for one in stats.venues)
        limits_are_kept(simulator)
        calls = {venue: rest["calls"] for venue, rest in simulator.status()["rest"].items()}
        assert calls == {one.venue: one.requests for one in stats.venues}
    same(kafka_settings, simulator)
    opened, repaired = (ids_of(events_of(kafka_settings, kind)) for kind in ("gap_opened", "gap_repaired"))
    assert opened == repaired
    counts = Counter(row[:3] for row in kafka_of(kafka_settings).elements())
    assert {key for key, count in counts.items() if count > 1} <= opened  # nothing else came twice
    assert events_of(kafka_settings, "gap_unavailable") == []


def test_an_outage_is_repaired(one_symbol: Settings, simulator: SimulatorServer) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        for venue, how in (("binance", "503"), ("kraken", "reset"), ("coinbase", "any")):
            simulator.fault("outage", venue=venue, seconds=600, how=how)
        until(lambda: not any(one.connected for one in service.stats().venues))
        traded(simulator, 500)
        simulator.end_faults()
        until(lambda: all(one.connected for one in service.stats().venues), 20)
        flowing(service)
        simulator.pause()
        until_whole(one_symbol, simulator, service, 60)
        assert all(one.reconnects >= 1 for one in service.stats().venues)
        limits_are_kept(simulator)
    same(one_symbol, simulator)


#: A kind for each venue; which answer means what at which venue is tried in test_ingest_rest.
REFUSALS = {"binance": "rest_418", "kraken": "rest_429", "coinbase": "rest_429"}
ERRORS = {"binance": "rest_error", "kraken": "kraken_rate_limit", "coinbase": "rest_slow"}
LAGS = dict.fromkeys(REFUSALS, "rest_lag")


@pytest.mark.parametrize(
    ("kinds", "details"),
    [(REFUSALS, {"seconds": 4}), (ERRORS, {"seconds": 600}), (LAGS, {"seconds": 600, "lag": 2.0})],
    ids=["refusals", "errors", "lags"],
)
def test_a_rest_that_is_in_trouble_delays_the_repair_and_loses_nothing(
    one_symbol: Settings, simulator: SimulatorServer, kinds: dict[str, str], details: dict[str, Any]
) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        for venue, kind in kinds.items():
            simulator.fault(kind, venue=venue, **details)
        simulator.fault("drop", seconds=0.8, share=0.5)
        time.sleep(1.0)
        flowing(service)
        if kinds is ERRORS:
            until(lambda: all(done(simulator, kind) > 0 for kind in ERRORS.values()), 20)
            simulator.end_faults()
        simulator.pause()
        until_whole(one_symbol, simulator, service, 60)
        assert all(one["banned"] == 0 for one in simulator.status()["rest"].values())
        if kinds is REFUSALS:
            # Retry-After names the rest of the fault: not one request too early.
            assert (done(simulator, "rest_418"), done(simulator, "rest_429")) == (1, 2)
    same(one_symbol, simulator)
