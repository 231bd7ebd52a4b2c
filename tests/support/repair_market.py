"""A market under a running ingest: wait until trades flow, lose some, hold the limits against the venues' own."""

from __future__ import annotations

import pytest

from lakehouse.ingest import backoff, gap_repair, rest
from lakehouse.ingest.backoff import Steps
from lakehouse.ingest.rate_limit import LIVE_SHARE
from lakehouse.ingest.service import IngestService
from lakehouse.ingest.stats import VenueStats
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import recorded
from tests.support.ingest_tools import until


def of(service: IngestService, venue: str) -> VenueStats:
    return next(one for one in service.stats().venues if one.venue == venue)


def flowing(service: IngestService, trades: int = 150) -> None:
    assert service.wait_subscribed(10) == {}
    before = service.stats().acked
    until(lambda: service.stats().acked > before + trades, 20)


def drop(simulator: SimulatorServer, share: float, trades: int) -> None:
    """Lose this share of the frames while the exchange makes so many trades; ends every fault."""
    simulator.fault("drop", seconds=600, share=share)
    traded(simulator, trades)
    simulator.end_faults()


def traded(simulator: SimulatorServer, trades: int) -> None:
    """Wait until the exchange has made so many more."""
    before = recorded(simulator)
    until(lambda: recorded(simulator) >= before + trades, 20)


def limits_are_kept(simulator: SimulatorServer) -> None:
    for venue, calls in simulator.status()["rest"].items():
        assert (calls["limited"], calls["banned"]) == (0, 0), venue
        assert calls["peak_share"] <= LIVE_SHARE + 1e-9, (venue, calls)


def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of seconds is over before pauses grow long. Pauses that the venue names or its budget asks for stay."""
    monkeypatch.setattr(gap_repair, "PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(gap_repair, "LONGEST_PAUSE_SECONDS", 2.0)
    monkeypatch.setattr(rest, "LIMITED", Steps(0.5, 4.0))
    for status in (418, 429):
        monkeypatch.setitem(backoff._STEPS, status, Steps(0.5, 4.0))
