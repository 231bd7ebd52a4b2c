"""The page beside a whole demo: candles that move, and a hole of the exchange that is seen open and then repaired."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def certificates(self) -> list[tuple[Any, ...]]:
        """Start and counts of the newest bars' certificates."""
        query = MARKET | {"size": "1m", "start": (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=20)).isoformat()}
        rows = httpx.get(f"{self.api}/v1/completeness", params=query, timeout=30).json()["rows"]
        names = ("bar_start", "present", "repaired", "open", "unavailable", "complete")
        return [tuple(row[name] for name in names) for row in rows]

    def open_bar(self) -> str:
        """Start of the newest bar whose certificate has open ids; empty if there is none."""
        return next((row[0] for row in reversed(self.certificates()) if row[3]), "")


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


def state_shown(shown: Watched, start: str) -> str:
    """The state of the bar that starts then, as the chart's element tells it; empty if it has none."""
    slider = shown.page.get_by_role("slider")
    slider.press("End")
    for _ in range(30):
        text = str(slider.get_attribute("aria-valuetext"))
        if text.startswith(start[:16].replace("T", " ")):
            return text.rsplit(", ", 1)[1]
        slider.press("ArrowLeft")
    return ""


def until(look: Callable[[], Any], what: str, demo: Demo, shown: Watched) -> Any:
    """Wait until `look` finds something, and return that."""
    deadline = time.monotonic() + REPAIR_SECONDS
    while not (found := look()):
        legend = shown.page.locator("#legend").inner_text()
        assert time.monotonic() < deadline, (what, demo.certificates(), legend)
        time.sleep(1)
    return found


def test_candles_move_and_a_hole_is_seen_open_and_then_repaired(demo: Demo) -> None:
    with watched(demo.api) as shown:
        shown.open("?venue=binance&symbol=BTC/USDT&size=1m")
        expect(shown.page.locator("#connection")).to_have_text("live")
        expect(shown.page.locator("#simulated")).to_be_visible()
        _moves(demo, shown)

        # The lake's first bar is never proved: the ledger knows no trade before it.
        until(lambda: len(demo.certificates()) >= 2, "a second bar", demo, shown)
        demo.fault("rest_error", 600)  # what is missed cannot be fetched for now
        demo.fault("drop", 5, symbol="BTC/USDT")
        hole = until(demo.open_bar, "an open bar", demo, shown)
        until(lambda: state_shown(shown, hole) == "open", f"{hole} open on the page", demo, shown)
        demo.end_faults()
        until(lambda: state_shown(shown, hole) == "repaired", f"{hole} repaired on the page", demo, shown)
        expect(shown.page.locator("#legend [data-state=open] b")).to_have_text("0", timeout=REPAIR_SECONDS * 1000)
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
