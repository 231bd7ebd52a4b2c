"""A socket is changed for another without a gap: by plan, by the venue's word, on request."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from lakehouse.exchanges.binance.stream import Binance
from lakehouse.exchanges.registry import VENUES
from lakehouse.ingest import feed, rotation, rotation_requests
from lakehouse.ingest.service import IngestService
from lakehouse.settings import Settings
from lakehouse.simulator.server import SimulatorServer
from tests.support.ingest_runs import events_of, in_kafka, ingest, recorded, running, same, until_whole
from tests.support.ingest_tools import until

pytestmark = pytest.mark.kafka


def flowing(service: IngestService) -> None:
    assert service.wait_subscribed(10) == {}
    before = service.stats().acked
    until(lambda: service.stats().acked > before + 300, 20)


def without_a_gap(
    settings: Settings, simulator: SimulatorServer, service: IngestService, overlaps: bool = True
) -> None:
    """To be called while the service runs."""
    flowing(service)
    simulator.pause()
    until_whole(settings, simulator, service)
    stats = service.stats()
    assert all((one.gaps, one.reconnects, one.requests) == (0, 0, 0) for one in stats.venues)
    assert (sum(one.duplicates for one in stats.venues) > 0) == overlaps, "what both sockets brought is there twice"
    assert events_of(settings, "gap_opened") == []
    same(settings, simulator)


def test_on_request(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator) as service:
        flowing(service)
        for _ in range(3):
            for rotation in service.rotate():
                assert rotation.done.wait(15)
                assert rotation.problem == ""
        assert all(one.rotations == 3 and one.connected for one in service.stats().venues)
        without_a_gap(kafka_settings, simulator, service)
    # The next one is up and subscribed before the one before it goes.
    for venue in kafka_settings.venues:
        events = [one for one in events_of(kafka_settings) if one["venue"] == venue]
        order = [one["event"] for one in events if one["event"] != "subscribed"]
        assert order == ["connected", *["connected", "disconnected"] * 3, "disconnected"]
        gone = [one for one in events if one["event"] == "disconnected"]
        assert all(one["detail"] == "rotated: asked for" for one in gone[:-1])


def test_by_plan_before_the_venue_closes(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifetimes = {name: one.lifetime_seconds for name, one in VENUES.items() if one.lifetime_seconds is not None}
    assert lifetimes == {"binance": 23 * 3600.0}  # an hour before the venue's 24
    monkeypatch.setattr(Binance, "lifetime_seconds", 2.0)
    monkeypatch.setattr(feed, "LIFETIME_JITTER_SECONDS", 0.5)
    with running(kafka_settings, simulator) as service:
        until(lambda: service.stats().venues[0].rotations == 2, 30)
        assert [one.rotations for one in service.stats().venues] == [2, 0, 0]
        without_a_gap(kafka_settings, simulator, service)


def test_when_the_venue_says_that_it_will_close(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator, venues=["binance"]) as service:
        flowing(service)
        simulator.fault("server_shutdown", venue="binance", delay=8)
        until(lambda: service.stats().venues[0].rotations == 1, 15)
        time.sleep(1)
        without_a_gap(kafka_settings, simulator, service)


def test_a_successor_that_brings_nothing_is_not_taken(
    kafka_settings: Settings, simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "OVERLAP_SECONDS", 2.0)
    with running(kafka_settings, simulator) as service:
        flowing(service)
        simulator.fault("ack_silent", seconds=600)
        rotations = service.rotate()
        for one in rotations:
            assert one.done.wait(30)
            assert "the successor brought no trade of" in one.problem
        assert all(one.connected and one.rotations == 0 for one in service.stats().venues)
        without_a_gap(kafka_settings, simulator, service, overlaps=False)


def test_a_rotation_without_a_connection_is_answered(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with running(kafka_settings, simulator, venues=["kraken"]) as service:
        flowing(service)
        simulator.fault("outage", seconds=3)
        until(lambda: not service.stats().venues[0].connected)
        (one,) = service.rotate()
        assert one.done.wait(15)
    (late,) = service.rotate()
    assert late.done.is_set()
    assert late.problem == "the feed has ended"


# From outside the process.


def test_by_a_signal_and_by_the_command(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with ingest(kafka_settings, simulator.url) as process:
        until(lambda: in_kafka(kafka_settings) > 500 or process.poll() is not None, 40)
        process.send_signal(signal.SIGUSR1)
        until(lambda: len(events_of(kafka_settings, "connected")) == 6, 20)
        until(lambda: len(events_of(kafka_settings, "disconnected")) == 3, 20)
        command = [sys.executable, "-m", "lakehouse", "rotate", "--home", str(kafka_settings.home)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert said.returncode == 0, said.stderr
        asked, answered = said.stderr.splitlines()
        assert asked == f"lakehouse: {kafka_settings.home}; its ingest has 45 s to answer"
        assert answered == "rotated 3 of 3 sockets of binance, kraken, coinbase"
        until(lambda: len(events_of(kafka_settings, "disconnected")) == 6)
        assert [path.name for path in rotation_requests.folder(kafka_settings).iterdir()] == ["rotate"]
        simulator.pause()
        until(lambda: in_kafka(kafka_settings) >= recorded(simulator))
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "SIGUSR1" in errors
    assert events_of(kafka_settings, "gap_opened") == []
    same(kafka_settings, simulator)


def test_several_ingests_of_one_home_all_follow(kafka_settings: Settings, simulator: SimulatorServer) -> None:
    with (
        running(kafka_settings, simulator, venues=["binance"]) as one,
        running(kafka_settings, simulator, venues=["kraken", "coinbase"]) as other,
    ):
        flowing(one)
        flowing(other)
        token = rotation_requests.ask(kafka_settings)
        until(lambda: len(rotation_requests.answers(kafka_settings, token)) == 2, 30)
        answers = rotation_requests.answers(kafka_settings, token)
        assert sorted(answer.sockets for answer in answers) == [1, 2]
        assert all(answer.problems == [] for answer in answers)
        rotation_requests.forget(kafka_settings, token)
        assert rotation_requests.answers(kafka_settings, token) == []


def test_the_command_without_an_ingest_says_so(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lakehouse.cli import rotate
    from lakehouse.errors import RetriableError

    monkeypatch.setattr(rotate, "ANSWER_SECONDS", 0.3)
    with pytest.raises(RetriableError, match=r"no ingest has run in .* yet; expected one that runs"):
        rotate.rotate(kafka_settings.home)
    assert not rotation_requests.folder(kafka_settings).exists()
    assert capsys.readouterr().err == ""
    rotation_requests.folder(kafka_settings).mkdir(parents=True)
    with pytest.raises(RetriableError, match=r"no ingest of .* answered within 0\.3 s; expected one that runs"):
        rotate.rotate(kafka_settings.home)
    assert capsys.readouterr().err == f"lakehouse: {kafka_settings.home}; its ingest has 0.3 s to answer\n"
