"""The gaps of the ledger are fetched by the job's side: simulator → REST → Kafka, compared with the record."""

from __future__ import annotations

import threading
import time

import pytest

from lakehouse.continuity.gaps import LedgerGap
from lakehouse.ingest import gap_repair
from lakehouse.repair.fetch import FetchReport, fetch_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import (
    events_of,
    ids_of,
    kafka_of,
    keys_of,
    recorded,
    running,
    same,
)
from tests.support.repair_market import drop, flowing, short_pauses

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    short_pauses(monkeypatch)


def gaps_of(settings: Settings, simulator: SimulatorServer) -> list[LedgerGap]:
    """The gaps as the ledger would name them: ranges of true trades that Kafka lacks."""
    found = {key[:3] for key in kafka_of(settings)}
    gaps: list[LedgerGap] = []
    for venue, symbol in keys_of(simulator):
        missing = [true.trade_id for true in simulator.record.iter(venue, symbol)]
        missing = [number for number in missing if (venue, symbol, number) not in found]
        for number in missing:
            if gaps and (gaps[-1].venue, gaps[-1].symbol, gaps[-1].last_id) == (venue, symbol, number - 1):
                gaps[-1] = LedgerGap(venue, symbol, gaps[-1].first_id, number)
            else:
                gaps.append(LedgerGap(venue, symbol, number, number))
    return gaps


@pytest.fixture
def torn(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, list[LedgerGap]]:
    """Settings, and the gaps that an ingest has left which never repaired.

    The gaps are of two symbols: at Kraken a quarter of the budget is a request in 4 s, and each symbol needs its own.
    """
    settings = kafka_settings.model_copy(update={"symbols": ("BTC/USDT", "ETH/USDT"), "simulator_url": simulator.url})
    with monkeypatch.context() as patch:
        patch.setattr(gap_repair.GapRepair, "order", lambda *_: None)
        with running(settings, simulator) as service:
            flowing(service)
            drop(simulator, 0.3, 800)
            flowing(service)
            simulator.pause()
            time.sleep(0.5)
    gaps = gaps_of(settings, simulator)
    assert len(gaps) > 50
    return settings, gaps


def test_gaps_of_the_ledger_are_repaired_within_a_quarter_of_the_budget(
    torn: tuple[Settings, list[LedgerGap]], simulator: SimulatorServer
) -> None:
    settings, gaps = torn
    wanted = sum(len(gap) for gap in gaps)
    extra = LedgerGap("binance", "BTC/USDT", 1, 3)  # older than what the venue has
    report = fetch_gaps(settings, [*gaps, extra], timeout=100)
    rest = simulator.status()["rest"]
    assert report == FetchReport(wanted + 3, wanted, 3, 0, sum(one["calls"] for one in rest.values()))
    assert all(one["limited"] == 0 for one in rest.values())
    assert rest["binance"]["peak_share"] <= 0.25
    same(settings, simulator)
    assert kafka_of(settings).total() == recorded(simulator)  # each once
    assert ids_of(events_of(settings, "gap_repaired")) == {
        (gap.venue, gap.symbol, number) for gap in gaps for number in range(gap.first_id, gap.last_id + 1)
    }
    assert ids_of(events_of(settings, "gap_unavailable")) == {("binance", "BTC/USDT", number) for number in (1, 2, 3)}
    assert fetch_gaps(settings, []) == FetchReport(0, 0, 0, 0, 0)


def test_repair_ends_in_time_or_when_told_and_says_what_is_left(
    torn: tuple[Settings, list[LedgerGap]], simulator: SimulatorServer
) -> None:
    settings, gaps = torn
    simulator.fault("rest_error", seconds=600)
    wanted = sum(len(gap) for gap in gaps)
    began = time.monotonic()
    report = fetch_gaps(settings, gaps, timeout=2)
    assert time.monotonic() - began < 8
    assert (report.gaps, report.repaired, report.left) == (wanted, 0, wanted)
    assert report.requests > 0
    stop = threading.Event()
    stop.set()
    assert fetch_gaps(settings, gaps, stop=stop, timeout=60).left == wanted
    assert time.monotonic() - began < 20
