"""The REST client against the simulated exchange: the venue's word is kept, and errors are one line."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse.errors import VenueError
from lakehouse.exchanges.history import Request
from lakehouse.exchanges.registry import venue as find_venue
from lakehouse.ingest.backoff import BAN_SECONDS, LIMITED
from lakehouse.ingest.metrics import VenueCounters
from lakehouse.ingest.rate_limit import LIVE_SHARE
from lakehouse.ingest.rest import RestClient
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import NO_LIMITS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    # Its limits count real seconds, the clients here their own.
    with SimulatorServer(SimulatorOptions(record=tmp_path / "record", rate=300, limits=NO_LIMITS)) as server:
        yield server


Connect = Callable[..., RestClient]


@pytest.fixture
def client_of() -> Iterator[Connect]:
    clients: list[RestClient] = []

    def connect(name: str, base: str | None, clock: Callable[[], float] = time.monotonic) -> RestClient:
        counters = VenueCounters(name)
        clients.append(RestClient(find_venue(name), base, LIVE_SHARE, counters, random.Random(1), clock))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def asked(client: RestClient, name: str) -> None:
    """One request, as the repair makes it."""
    venue = find_venue(name)
    try:
        venue.newest_id(client.get(venue.newest("BTC/USDT")))
    except VenueError as error:
        client.refused(error)
    else:
        client.accepted()


@pytest.mark.parametrize("name", ["binance", "kraken", "coinbase"])
@pytest.mark.parametrize("kind", ["rest_429", "rest_418"])
def test_retry_after_is_kept_for_the_whole_venue(
    simulator: SimulatorServer, client_of: Connect, name: str, kind: str
) -> None:
    clock = Clock()
    client = client_of(name, simulator.url, clock)
    simulator.fault(kind, seconds=60, retry_after=17)
    asked(client, name)
    assert client.wait(1) == pytest.approx(17)
    assert client.wait(1, is_look=True) == pytest.approx(17)
    clock.now += 16.9
    assert client.wait(1) > 0
    clock.now += 0.2
    assert client.wait(1) == 0
    simulator.end_faults()
    asked(client, name)
    assert client._counters.requests == 2
    assert client._counters.refusals == 1


@pytest.mark.parametrize(
    ("name", "kind", "least"), [("binance", "rest_error", 0.0), ("kraken", "kraken_rate_limit", 5.0)]
)
def test_errors_without_a_time_are_met_with_growing_jittered_pauses(
    simulator: SimulatorServer, client_of: Connect, name: str, kind: str, least: float
) -> None:
    clock = Clock()
    client = client_of(name, simulator.url, clock)
    simulator.fault(kind, seconds=600)
    pauses = []
    for _ in range(9):
        asked(client, name)
        pauses.append(client.wait(0.01))
        clock.now += pauses[-1] + 60
    for number, pause in enumerate(pauses):
        step = min(LIMITED.first * 2**number, LIMITED.longest)
        assert max(least, step / 2) <= pause <= max(least, step)
    simulator.end_faults()
    asked(client, name)
    assert client.wait(0.01) <= 1 / LIVE_SHARE  # Kraken's next turn, and no pause


def test_a_ban_without_a_time_lasts(client_of: Connect) -> None:
    client = client_of("binance", "http://127.0.0.1:1", Clock())
    client._status = 418
    client.refused(VenueError("banned"))
    assert client.wait(25) == BAN_SECONDS


@pytest.mark.parametrize(("name", "count"), [("binance", 161), ("kraken", 2), ("coinbase", 7)])
def test_the_budget_is_counted_with_every_request(
    simulator: SimulatorServer, client_of: Connect, name: str, count: int
) -> None:
    clock = Clock()
    client = client_of(name, simulator.url, clock)
    weight = find_venue(name).newest("BTC/USDT").weight
    for _ in range(count - 1):
        assert client.wait(weight) == 0
        asked(client, name)
    assert client.wait(weight) > 0
    assert 0.5 < client._counters.budget_used() <= 1


def test_looks_have_a_small_part_of_their_own(simulator: SimulatorServer, client_of: Connect) -> None:
    clock = Clock()
    client = client_of("binance", simulator.url, clock)
    venue = find_venue("binance")
    looks = 0
    while client.wait(25, is_look=True) == 0:
        client.get(venue.newest("BTC/USDT"), is_look=True)
        looks += 1
    assert looks == 24  # a tenth of 6,000
    assert client.wait(25) == 0


def test_no_answer_is_one_line(client_of: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = client_of("binance", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(VenueError, match=r"no answer from the REST API of binance: .*refused"):
            client.get(Request("/api/v3/trades", {}, {}, 25.0))
    assert client._counters.budget_used() == 25 / 6000  # it may have been counted


def test_a_venue_that_does_not_answer_in_time_is_an_error(
    simulator: SimulatorServer, client_of: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.rest.READ_SECONDS", 0.3)
    client = client_of("coinbase", simulator.url)
    simulator.fault("rest_slow", seconds=30, delay=5)
    began = time.monotonic()
    with pytest.raises(VenueError, match="timed out"):
        client.get(find_venue("coinbase").newest("BTC/USDT"))
    assert time.monotonic() - began < 2
