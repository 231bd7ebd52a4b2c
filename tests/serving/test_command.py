"""`lakehouse serve` as a process: what it says, what it refuses, how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lakehouse.broker.ports import free_port
from tests.support.demo_tools import assert_one_line, environment
from tests.support.market_lake import MarketLake

KEY = "a-key-of-24-characters-x"


def words(market: MarketLake, *more: str) -> list[str]:
    return [sys.executable, "-m", "lakehouse", "serve", "--home", str(market.settings.home), *more]


def refused(market: MarketLake, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(market, *more), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def started(market: MarketLake, log: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words(market, "--port", str(port), *more), env=environment(), stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/v1/price", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends(market: MarketLake, tmp_path: Path, number: signal.Signals) -> None:
    with started(market, tmp_path / "log") as (process, url):
        assert httpx.get(f"{url}/v1/bars", timeout=30).json()["rows"]
        process.send_signal(number)
        assert process.wait(15) in (0, -number)
    said = (tmp_path / "log").read_text()
    assert f"at {url} (no key)" in said
    assert "Traceback" not in said


def test_the_key_is_in_no_log(market: MarketLake, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY, encoding="utf-8")
    with started(market, tmp_path / "log", "--host", "0.0.0.0", "--api-key-file", str(file)) as (_, url):
        assert httpx.get(f"{url}/v1/bars", timeout=30).status_code == 401
        sent = {"Authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{url}/v1/bars", timeout=30, headers=sent).status_code == 200
        assert httpx.get(f"{url}/v1/bars?key={KEY}", timeout=30, headers=sent).status_code == 400
    assert KEY not in (tmp_path / "log").read_text()
    assert "a key is needed" in (tmp_path / "log").read_text()


def test_beyond_this_machine_without_a_key(market: MarketLake) -> None:
    done = refused(market, "--host", "0.0.0.0", "--port", str(free_port()))
    assert_one_line(done, "without a key", "--open")
    assert done.returncode == 64


def test_a_busy_port(market: MarketLake) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = refused(market, "--port", port)
    assert_one_line(done, f"port {port} of 127.0.0.1 cannot be used", "LAKEHOUSE_SERVE_PORT")
    assert done.returncode == 69


def test_an_address_of_another_machine(market: MarketLake) -> None:
    done = refused(market, "--host", "192.0.2.1", "--open", "--port", str(free_port()))
    assert_one_line(done, "192.0.2.1", "cannot be used")
