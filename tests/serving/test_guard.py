"""The limits of a server, one by one: rate, number at once, body, query string, query time, host, key, address."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import SettingError
from lakehouse.serving.access import KeyCheck, is_loopback, key_of_file, require_allowed
from lakehouse.serving.guard import Limits, Rates, client_of
from lakehouse.serving.opened import WouldBlockError
from lakehouse.serving.pool import Pool
from lakehouse.serving.reader import Call, Reader
from lakehouse.settings import load_settings
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import serving
from tests.support.market_lake import MarketLake

KEY = "a-key-of-24-characters-x"


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:lakehouse:problem:{kind}"
    return str(answer.json()["detail"])


# --- rate


@given(st.lists(st.floats(0, 1), max_size=200), st.integers(1, 20), st.floats(1, 100))
def test_no_client_gets_more_than_its_burst_and_its_rate(pauses: list[float], burst: int, rate: float) -> None:
    rates, now, taken = Rates(Limits(rate=rate, burst=burst)), 0.0, 0
    for number, pause in enumerate(pauses):
        now += pause
        wait = rates.wait("client", now)
        taken += not wait
        assert taken <= burst + rate * now + 1e-6
        assert wait <= 1 / rate + 1e-6
        assert not rates.wait(f"other {number}", now)


def test_whoever_waits_as_told_is_served() -> None:
    rates = Rates(Limits(rate=10, burst=1))
    assert rates.wait("client", 0.0) == 0
    wait = rates.wait("client", 0.0)
    assert wait == pytest.approx(0.1)
    assert rates.wait("client", wait) == 0


def test_only_so_many_clients_are_remembered() -> None:
    rates = Rates(Limits(burst=1, clients=3))
    assert [rates.wait(str(number), 0.0) for number in range(4)] == [0, 0, 0, 0]
    assert rates.wait("3", 0.0) > 0
    assert rates.wait("0", 0.0) == 0  # forgotten


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str, client: str) -> None:
    assert client_of({"client": (address, 5)}) == client
    assert client_of({"client": None}) == "unknown"


def test_too_many_requests_are_told_to_wait(market: MarketLake) -> None:
    with serving(market.settings, Limits(rate=1.0, burst=3)) as client:
        answers = [client.get("/v1/price") for _ in range(5)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
        assert "more than 1 requests a second" in problem(answers[-1], 429, "rate-limited")
        assert answers[-1].headers["retry-after"] == "1"


# --- size


def test_a_body_is_refused(client: httpx.Client) -> None:
    assert "70000 bytes" in problem(client.request("GET", "/v1/bars", content=b"x" * 70_000), 413, "body-too-large")
    problem(client.post("/v1/bars", content=b"x" * 70_000), 413, "body-too-large")

    def parts() -> Iterator[bytes]:
        yield b"x"

    problem(client.request("GET", "/v1/bars", content=parts()), 411, "no-length")
    assert client.request("GET", "/v1/price", content=b"{}").status_code == 200


def test_a_long_query_string_is_refused(client: httpx.Client) -> None:
    problem(client.get(f"/v1/bars?venue={'x' * 9_000}"), 414, "query-too-long")


def test_what_is_no_request_does_no_harm(url: str, client: httpx.Client) -> None:
    host, port = url.removeprefix("http://").split(":")
    for sent in (b"\x00\xff" * 500, b"GET / HTTP/9\r\n\r\n", b"GET /v1/bars HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(sent)
            raw.settimeout(10)
            assert b"200 OK" not in raw.recv(1000)
    assert client.get("/v1/price").status_code == 200


# --- number at once, time


class SlowReader(Reader):
    """A reader whose pages take as long as a test lets them."""

    released = threading.Event()

    def page(self, *arguments: Any, **more: Any) -> Any:
        call: Call = arguments[4]
        if not call.wait:
            raise WouldBlockError
        while not self.released.wait(0.01):
            call.check()
        return super().page(*arguments, **more)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    monkeypatch.setattr("lakehouse.serving.answers.Reader", SlowReader)
    SlowReader.released.clear()
    yield SlowReader.released
    SlowReader.released.set()


def _busy(market: MarketLake, slow: threading.Event, limits: Limits, pool: Pool, count: int) -> list[httpx.Response]:
    with serving(market.settings, limits, pool) as client, ThreadPoolExecutor(count) as threads:
        waiting = [threads.submit(client.get, "/v1/bars") for _ in range(count)]
        time.sleep(1)
        refused = client.get("/v1/bars")
        slow.set()
        assert [one.result().status_code for one in waiting] == [200] * count
        return [refused, client.get("/v1/bars")]


def test_more_than_so_many_at_once_are_refused(market: MarketLake, slow: threading.Event) -> None:
    refused, after = _busy(market, slow, Limits(at_once=3), Pool(), 3)
    assert "3 requests are being answered" in problem(refused, 503, "busy")
    assert refused.headers["retry-after"] == "1"
    assert after.status_code == 200


def test_more_than_so_many_that_wait_for_the_disk_are_refused(market: MarketLake, slow: threading.Event) -> None:
    refused, after = _busy(market, slow, Limits(), Pool(threads=1, most=2), 2)
    assert "2 requests wait for the disk" in problem(refused, 503, "busy")
    assert after.status_code == 200


def test_what_is_in_memory_is_answered_while_threads_are_busy(market: MarketLake, slow: threading.Event) -> None:
    with serving(market.settings, UNLIMITED, Pool(threads=1)) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.get, "/v1/bars")
        time.sleep(0.5)
        assert client.get("/v1/price").status_code == 200
        slow.set()
        assert waiting.result().status_code == 200


def test_a_query_that_takes_too_long_ends_and_gives_its_thread_back(market: MarketLake, slow: threading.Event) -> None:
    pool = Pool(threads=1, most=1, seconds=0.5)
    with serving(market.settings, UNLIMITED, pool) as client:
        assert "no answer within 0.5 s" in problem(client.get("/v1/bars"), 503, "query-time")
        time.sleep(0.5)
        slow.set()
        deadline = time.monotonic() + 30  # a machine under load may take longer than the half second, too
        while (status := client.get("/v1/bars").status_code) != 200:
            assert status == 503
            assert time.monotonic() < deadline


# --- host, key, address


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/price", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "10.0.0.1", ""])
def test_a_page_elsewhere_whose_name_leads_here_reads_nothing(client: httpx.Client, host: str) -> None:
    problem(client.get("/v1/price", headers={"Host": host}), 421, "wrong-host")


def test_a_key_is_asked_for_on_every_path(market: MarketLake) -> None:
    settings = market.settings.model_copy(update={"api_key": load_settings(api_key=KEY).api_key})
    with serving(settings, UNLIMITED) as client:
        for path in ("/v1/bars", "/v1/health", "/openapi.json", "/nothing"):
            refused = client.get(path)
            problem(refused, 401, "no-key")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert KEY not in refused.text
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {KEY}"}, {"X-API-Key": KEY}):
            assert client.get("/v1/markets", headers=headers).status_code == 200
        for headers in ({"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": KEY[:-1]}):
            problem(client.get("/v1/markets", headers=headers), 401, "no-key")
        problem(client.get("/v1/markets", params={"api_key": KEY}), 401, "no-key")
        described = client.get("/openapi.json", headers={"X-API-Key": KEY}).json()
        assert described["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}


@given(st.text(), st.text())
def test_only_the_key_is_the_key(first: str, second: str) -> None:
    check = KeyCheck(KEY)
    for one in (first, second, KEY + first, first + KEY):
        sent = one.encode("utf-8", "surrogatepass")
        assert check.allows({b"x-api-key": sent}) == (sent.strip() == KEY.encode())
        assert check.allows({b"authorization": b"Bearer " + sent}) == (sent.strip() == KEY.encode())
    assert KeyCheck(None).allows({})


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("lakehouse.example", False),
        ("", False),
    ],
)
def test_beyond_this_machine_only_with_a_key_or_the_word(host: str, is_local: bool) -> None:
    assert is_loopback(host) == is_local
    settings = load_settings(serve_host=host)
    require_allowed(settings, is_open=True)
    require_allowed(load_settings(serve_host=host, api_key=KEY))
    if is_local:
        require_allowed(settings)
    else:
        with pytest.raises(SettingError, match="without a key, where other machines can reach it; expected a key"):
            require_allowed(settings)


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    assert key_of_file(file) == KEY
    file.write_text("short", encoding="utf-8")
    with pytest.raises(SettingError, match="a key of 5 characters; expected 16 or more") as error:
        key_of_file(file)
    assert "short" not in str(error.value)
    with pytest.raises(SettingError, match="No such file"):
        key_of_file(tmp_path / "none")


def test_a_key_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_API_KEY", KEY)
    settings = load_settings()
    for text in (str(settings), repr(settings), settings.model_dump_json(), str(settings.environment())):
        assert KEY not in text
