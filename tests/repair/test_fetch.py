"""Missed trades are fetched: simulator → ingest → Kafka with faults, compared trade by trade with the record."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.continuity.gaps import LedgerGap
from lakehouse.ingest import backoff, gap_repair, rest, silence_probe
from lakehouse.ingest.backoff import Steps
from lakehouse.ingest.rate_limit import LIVE_SHARE
from lakehouse.ingest.service import IngestService
from lakehouse.ingest.stats import VenueStats
from lakehouse.repair.fetch import FetchReport, fetch_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import (
    events_of,
    ids_of,
    kafka_of,
    keys_of,
    recorded,
    running,
    same,
    truth_of,
    until_whole,
)
from tests.support.ingest_tools import until
from tests.support.simulator_support import done

pytestmark = pytest.mark.kafka


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=600)) as server:
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of seconds is over before the pauses grow long. What the venue names or its budget asks for stays."""
    monkeypatch.setattr(gap_repair, "PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(gap_repair, "LONGEST_PAUSE_SECONDS", 2.0)
    monkeypatch.setattr(rest, "LIMITED", Steps(0.5, 4.0))
    for status in (418, 429):
        monkeypatch.setitem(backoff._STEPS, status, Steps(0.5, 4.0))


@pytest.fixture
def one_symbol(kafka_settings: Settings) -> Settings:
    """For what is the same with three: Kraken's budget is a request in 1.5 s, and each symbol needs its own."""
    return kafka_settings.model_copy(update={"symbols": ("BTC/USDT",)})


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet symbol is looked at within seconds, also at Kraken, of whose budget a tenth is a look in 10 s."""
    monkeypatch.setattr(silence_probe, "QUIET_SECONDS", 3.0)
    monkeypatch.setattr(silence_probe, "FRESH_SECONDS", 2.0)
    monkeypatch.setattr(silence_probe, "AGAIN_SECONDS", 1.5)
    monkeypatch.setattr(silence_probe, "SAMPLE_SECONDS", 0.2)
    monkeypatch.setattr(rest, "LOOK_SHARE", 0.5)


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


def test_ids_that_the_venue_skipped_are_told_unavailable(one_symbol: Settings, simulator: SimulatorServer) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        simulator.fault("id_holes", seconds=600, ids=5, every=0.2)
        traded(simulator, 400)
        simulator.end_faults()
        flowing(service)
        simulator.pause()
        until_whole(one_symbol, simulator, service, 60)
        stats = service.stats()
    ids = {key[:3] for key in truth_of(simulator)}
    first = {key: min(trade_id for *of, trade_id in ids if tuple(of) == key) for key in keys_of(simulator)}
    last = {key: max(trade_id for *of, trade_id in ids if tuple(of) == key) for key in keys_of(simulator)}
    skipped = {(*key, number) for key in first for number in range(first[key], last[key] + 1)} - ids
    assert len(skipped) > 20
    assert ids_of(events_of(one_symbol, "gap_unavailable")) == skipped
    assert sum(one.unavailable for one in stats.venues) == len(skipped)
    same(one_symbol, simulator)


def test_a_lost_tail_of_a_symbol_that_falls_quiet_is_found(
    one_symbol: Settings, simulator: SimulatorServer, quick_looks: None
) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        simulator.fault("drop", seconds=600)
        time.sleep(0.5)
        simulator.pause()  # and not one trade more
        assert not any(one.gaps for one in service.stats().venues if one.venue != "coinbase")
        count = recorded(simulator)
        until(lambda: service.stats().acked == count, 40)
        stats = service.stats()
        limits_are_kept(simulator)
    # Coinbase's heartbeats were dropped as well; nobody reconnected for it.
    assert all(one.repaired > 0 and one.reconnects == one.rotations == 0 for one in stats.venues if one.gaps)
    same(one_symbol, simulator)


@pytest.mark.parametrize("kind", ["ack_silent", "mute"])
def test_a_subscription_that_brings_nothing_is_found_and_its_socket_changed(
    one_symbol: Settings, simulator: SimulatorServer, quick_looks: None, kind: str
) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        if kind == "ack_silent":
            simulator.fault("ack_silent", seconds=2)
            simulator.fault("cut_1006")
            until(lambda: done(simulator, "ack_silent") > 0)
        else:
            # Heartbeats and pongs go on, trades do not; on the connections of this moment.
            simulator.fault("mute", seconds=600, open_only=True)
        until(lambda: all(one.rotations >= 1 for one in service.stats().venues), 90)
        flowing(service)
        simulator.pause()
        until_whole(one_symbol, simulator, service, 90)
        limits_are_kept(simulator)
    stale = events_of(one_symbol, "stale")
    assert {event["venue"] for event in stale} == set(one_symbol.venues)
    assert all("silent" in event["detail"] for event in stale)
    same(one_symbol, simulator)


def test_live_trades_do_not_wait_for_a_long_repair(kafka_settings: Settings, tmp_path: Path) -> None:
    options = SimulatorOptions(record=tmp_path / "record", rate=20_000, venues=("binance",), symbols=("BTC/USDT",))
    choices = {"venues": ["binance"], "symbols": ["BTC/USDT"]}
    with SimulatorServer(options) as busy:
        with running(kafka_settings, busy, **choices) as service:
            flowing(service)
        # Nobody listens: a gap of 60,000 trades grows.
        until(lambda: recorded(busy) > 60_000, 30)
    slow = SimulatorOptions(record=tmp_path / "record", rate=200, venues=("binance",), symbols=("BTC/USDT",))
    with SimulatorServer(slow) as simulator, running(kafka_settings, simulator, **choices) as service:
        until(lambda: of(service, "binance").repaired > 5_000, 30)
        flow = service._counters.symbol("binance", "BTC/USDT")
        before, live = list(flow.latency_counts), flow.produced
        until(lambda: of(service, "binance").repaired > 40_000, 60)
        counts = [after - earlier for after, earlier in zip(flow.latency_counts, before, strict=True)]
        assert flow.produced > live + 100
        assert service.stats().venues[0].open_ids > 0, "the repair was over before the measurement"
        # Bounds of the buckets: 10, 25, 50, 100, 250, 500 ms, 1, 2.5 s …. Alone 99 % are below 0.5 s; on a busy machine
        # a quarter was above. A trade that waited for the repair would come after many seconds.
        assert sum(counts[:8]) >= 0.95 * sum(counts), counts
        simulator.pause()
        until_whole(kafka_settings, simulator, service, 60)
        limits_are_kept(simulator)
        assert of(service, "binance").requests < 90
    same(kafka_settings, simulator)


def test_a_stop_in_the_middle_of_a_repair_is_gone_on_with_by_the_next_start(
    one_symbol: Settings, simulator: SimulatorServer
) -> None:
    with running(one_symbol, simulator) as service:
        flowing(service)
        simulator.fault("rest_error", seconds=600)
        simulator.fault("drop", seconds=0.8, share=0.5)
        time.sleep(1.0)
        flowing(service)
        until(lambda: all(one.requests for one in service.stats().venues))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert all(one.open_ids and not one.repaired for one in service.stats().venues)
    simulator.end_faults()
    with running(one_symbol, simulator) as service:
        flowing(service)
        simulator.pause()
        until_whole(one_symbol, simulator, service, 60)
    same(one_symbol, simulator)
    opened, repaired = (ids_of(events_of(one_symbol, kind)) for kind in ("gap_opened", "gap_repaired"))
    assert opened == repaired


def test_what_is_not_shown_for_too_long_is_given_up_and_stays_open(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_repair, "GIVE_UP_SECONDS", 2.0)
    with running(kafka_settings, simulator, venues=["coinbase"], symbols=["BTC/USDT"]) as service:
        flowing(service, 50)
        simulator.fault("rest_lag", seconds=600, lag=3600.0)
        simulator.fault("drop", seconds=1, share=0.5)
        until(lambda: bool(of(service, "coinbase").open_ids))
        until(lambda: service._repairers[0].is_idle and of(service, "coinbase").requests > 0, 30)
        assert of(service, "coinbase").open_ids
        service.check()
    (event, *_) = events_of(kafka_settings, "venue_error")
    assert "stays open: nothing of it came for 2 s" in event["detail"]


# The job's side.


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

    Of two symbols: at Kraken a quarter of the budget is a request in 4 s, and each symbol needs its own.
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
