"""The page beside a whole demo: candles that move, and a hole of the exchange that is seen open and then repaired."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from lakehouse.broker.ports import free_port
from lakehouse.local_stack.processes import end_processes, marked_processes
from tests.support import ui
from tests.support.demo_tools import lakehouse, start
from tests.support.page import Watched, watched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.lakehouse,
    pytest.mark.spark,
    pytest.mark.kafka,
    pytest.mark.timeout(900),
    pytest.mark.skipif(ui.chromium() is None, reason="no Chromium here"),
]
#: Seconds for a demo to have bars, and for a gap to be repaired once the venue answers again.
START_SECONDS = 300
REPAIR_SECONDS = 240
MARKET = {"venue": "binance", "symbol": "BTC/USDT"}


@dataclass
class Demo:
    """A demo that runs: the URLs of its API and of its simulated exchange."""

    api: str
    simulator: str

    def fault(self, kind: str, seconds: float, **more: str) -> None:
        message = {"kind": kind, "venue": "binance", "seconds": seconds, **more}
        answer = httpx.post(f"{self.simulator}/admin/faults", json=message, trust_env=False)
        assert answer.status_code == 200, answer.text

    def end_faults(self) -> None:
        httpx.delete(f"{self.simulator}/admin/faults", trust_env=False).raise_for_status()

    def bars(self) -> int:
        """How many bars the market has; 0 before it is there."""
        try:
            answer = httpx.get(f"{self.api}/v1/bars", params=MARKET, timeout=10)
        except httpx.TransportError:
            return 0
        return len(answer.json()["rows"]) if answer.status_code == 200 else 0

    def newest(self) -> tuple[str, str]:
        """Start and close of the newest bar."""
        row = httpx.get(f"{self.api}/v1/bars", params=MARKET, timeout=30).json()["rows"][-1]
        return row["bar_start"], row["close"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    home, log = tmp_path / "home", tmp_path / "demo.log"
    words = ("demo", "--port", str(free_port()), "--home", str(home), "--rate", "60", "--venues", "binance,kraken")
    process = start(*words, cwd=tmp_path, log=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        found = None
        while found is None or not found.bars():
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(1)
            api = re.search(r"API (http://[\d.:]+)", log.read_text(encoding="utf-8"))
            said = lakehouse("env", "--home", str(home), cwd=tmp_path).stdout if api else ""
            simulator = re.search(r"LAKEHOUSE_SIMULATOR_URL=(\S+)", said)
            found = Demo(api[1], simulator[1]) if api and simulator else found
        yield found
    finally:
        process.terminate()
        process.wait(120)
        end_processes(marked_processes(home), time.monotonic() + 10)


def close_shown(shown: Watched) -> str:
    """The close of the newest bar, as the chart's element tells it."""
    shown.page.get_by_role("slider").press("End")
    return str(shown.page.get_by_role("slider").get_attribute("aria-valuetext"))


def test_candles_move_and_a_hole_is_seen_open_and_then_repaired(demo: Demo) -> None:
    with watched(demo.api) as shown:
        shown.open("?venue=binance&symbol=BTC/USDT&size=1m")
        expect(shown.page.locator("#connection")).to_have_text("live")
        expect(shown.page.locator("#simulated")).to_be_visible()
        _moves(demo, shown)

        demo.fault("rest_error", 600)  # what is missed cannot be fetched for now
        demo.fault("drop", 5, symbol="BTC/USDT")
        expect(shown.page.locator("#legend [data-state=open] b")).not_to_have_text("0", timeout=REPAIR_SECONDS * 1000)
        repaired = shown.count("repaired")
        demo.end_faults()
        expect(shown.page.locator("#legend [data-state=open] b")).to_have_text("0", timeout=REPAIR_SECONDS * 1000)
        deadline = time.monotonic() + REPAIR_SECONDS  # the bar must be over
        while shown.count("repaired") <= repaired:
            assert time.monotonic() < deadline
            time.sleep(1)
        assert shown.errors == []
        assert shown.elsewhere == []


def _moves(demo: Demo, shown: Watched) -> None:
    """The chart shows the newest close of the API, and another one later."""
    closes: set[str] = set()
    deadline = time.monotonic() + 120
    while len(closes) < 3:
        assert time.monotonic() < deadline, closes
        before, text, after = demo.newest(), close_shown(shown), demo.newest()
        if before == after:  # it has not changed meanwhile; the stream looks once a second
            start_of_bar, close = before
            expected = f"{start_of_bar[:16].replace('T', ' ')}, close {close}, "
            if text.startswith(expected):
                closes.add(close)
        time.sleep(1)
    price = shown.page.locator("#price").inner_text()
    assert abs(float(price) / float(demo.newest()[1]) - 1) < 0.1
