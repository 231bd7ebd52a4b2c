"""The page in Chromium over a lake that stands still: pickers, strip, keyboard, phone, dark, key, requests."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from lakehouse.client import Lake
from lakehouse.serving import page_files
from lakehouse.settings import load_settings
from tests.serving.conftest import UNLIMITED
from tests.support import ui
from tests.support.api_server import running
from tests.support.market_lake import MarketLake
from tests.support.page import PHONE, Watched, watched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(ui.chromium() is None, reason="no Chromium here"),
]
KEY = "a-key-of-24-characters-x"
#: Bytes of a whole visit, and milliseconds to the first candles: far more than is promised, for other work may run too.
MOST_BYTES = 400_000
MOST_MS = 15_000


@pytest.fixture
def shown(url: str) -> Iterator[Watched]:
    with watched(url) as found:
        yield found
        assert found.errors == []
        assert found.elsewhere == []


def rows_of(client: httpx.Client, **chosen: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/bars", params=chosen).json()["rows"]
    return found


def test_a_visit_is_quick_and_small(shown: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    shown.open()
    first = shown.first_candles()
    shown.page.wait_for_timeout(4_000)
    transferred = shown.transferred()
    with capsys.disabled():
        print(f"\nfirst candles after {first:.0f} ms; {transferred:,} bytes")
    assert first < MOST_MS
    assert transferred < MOST_BYTES
    assert any(address.startswith("ws://") for address in shown.urls)


def test_the_strip_counts_what_the_ledger_proves(shown: Watched, lake: Lake, client: httpx.Client) -> None:
    shown.open("?venue=kraken&symbol=ETH/USD&size=5m")
    bars = rows_of(client, venue="kraken", symbol="ETH/USD", size="5m")
    first = bars[0]["bar_start"]
    proved = lake.completeness("kraken", "ETH/USD", size="5m", start=first).arrow().to_pylist()
    expected = dict.fromkeys(("open", "unavailable", "pending", "repaired", "complete"), 0)
    for one in proved:
        is_missing = "open" if one["open"] else "unavailable" if one["unavailable"] else ""
        is_whole = ("repaired" if one["repaired"] else "complete") if one["complete"] else "pending"
        expected[is_missing or is_whole] += 1
    assert min(expected.values()) >= 1
    expect(shown.page.locator("#legend [data-state=complete] b")).to_have_text(str(expected["complete"]))
    assert {state: shown.count(state) for state in expected} == expected
    assert shown.bars() == len(bars)


def test_pickers_show_another_market_and_size(shown: Watched, client: httpx.Client) -> None:
    shown.open()
    for venue, symbol, size in (
        ("kraken", "ETH/USD", "1m"),
        ("kraken", "ETH/USD", "1h"),
        ("binance", "BTC/USDT", "1h"),
    ):
        shown.page.get_by_role("combobox", name="Venue").select_option(venue)
        shown.page.get_by_role("combobox", name="Symbol").select_option(symbol)
        shown.page.get_by_role("combobox", name="Bars of").select_option(size)
        bars = rows_of(client, venue=venue, symbol=symbol, size=size)
        expect(shown.page.get_by_role("slider")).to_have_accessible_name(f"Bars of {venue} {symbol}, {size}")
        expect(shown.page.locator("#price")).to_have_text(bars[-1]["close"])
        expect(shown.page.locator("#chart")).to_have_attribute("data-bars", str(len(bars)))
    assert shown.page.url.endswith("?venue=binance&symbol=BTC%2FUSDT&size=1h")
    shown.page.reload()
    expect(shown.page.get_by_role("combobox", name="Bars of")).to_have_value("1h")


def test_the_keyboard_chooses_a_bar_and_its_certificate_is_the_apis(shown: Watched, client: httpx.Client) -> None:
    shown.open("?venue=binance&symbol=BTC/USDT&size=5m")
    bars = rows_of(client, venue="binance", symbol="BTC/USDT", size="5m")
    for _ in range(12):  # whatever stands before the chart can be reached, and the chart itself
        shown.page.keyboard.press("Tab")
        if shown.page.evaluate("() => document.activeElement.id") == "chart":
            break
    for key, at in (
        ("ArrowLeft", -1),
        ("ArrowLeft", -2),
        ("PageUp", -12),
        ("ArrowRight", -11),
        ("Home", 0),
        ("End", -1),
    ):
        shown.page.keyboard.press(key)
        time = bars[at]["bar_start"][:16].replace("T", " ")
        expect(shown.page.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile(f"^{time}, close "))
        expect(shown.page.locator("#certificate")).to_contain_text(f"{time} UTC, binance BTC/USDT")
    shown.page.keyboard.press("ArrowLeft")
    expect(shown.page.locator("#certificate")).to_contain_text(bars[-2]["bar_start"][11:16])
    chosen, end = bars[-2], bars[-1]["bar_start"]
    query = {"venue": "binance", "symbol": "BTC/USDT", "start": chosen["bar_start"], "end": end}
    proof = client.get("/v1/completeness", params=query).json()
    row, found = proof["rows"][0], shown.certificate()
    assert found["Trade ids"] == f"{row['first_trade_id']} to {row['last_trade_id']}"
    assert found["Present"] == f"{row['present']} of {row['expected']}"
    assert found["Revision"] == str(chosen["revision"])
    versions = f"silver/continuity {proof['version']}, silver/trades {row['trades_version']}"
    assert found["Versions"].endswith(versions)
    shown.page.keyboard.press("Escape")
    expect(shown.page.locator("#certificate")).to_have_text("No bar is chosen.")


def test_a_click_chooses_a_bar(shown: Watched) -> None:
    shown.open()
    box = shown.page.locator("#chart").bounding_box()
    assert box
    shown.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    expect(shown.page.locator("#certificate dt").first).to_have_text("Bar")
    assert shown.page.get_by_role("slider").get_attribute("aria-valuetext") != "no bar chosen"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_in_either_theme(url: str, theme: str) -> None:
    with watched(url, *PHONE, color_scheme=theme) as shown:
        shown.open()
        shown.page.locator("#chart").press("ArrowLeft")
        expect(shown.page.locator("#certificate dt").first).to_have_text("Bar")
        shown.page.wait_for_timeout(1_000)
        assert not shown.is_too_wide()
        before = shown.background()
        assert (before == "rgb(255, 255, 255)") == (theme == "light")
        button = shown.page.get_by_role("button", name="Dark")
        expect(button).to_have_attribute("aria-pressed", str(theme == "dark").lower())
        button.click()
        expect(button).to_have_attribute("aria-pressed", str(theme != "dark").lower())
        assert shown.background() != before
        after = shown.background()
        shown.page.reload()
        shown.open()
        assert shown.background() == after
        assert shown.errors == []


def test_everything_that_can_be_used_has_a_name(shown: Watched) -> None:
    shown.open()
    for role in ("button", "combobox", "slider", "link", "region"):
        for one in shown.page.get_by_role(role).all():
            expect(one).to_have_accessible_name(re.compile(r"\S"))
    assert shown.page.locator("[tabindex]:not([tabindex='0'])").count() == 0


def test_the_key_is_asked_for_and_kept_in_this_tab(market: MarketLake) -> None:
    settings = market.settings.model_copy(update={"api_key": load_settings(api_key=KEY).api_key})
    with running(settings, UNLIMITED) as url, watched(url) as shown:
        shown.page.goto("/")
        dialog = shown.page.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key").fill("not the key of it")
        dialog.get_by_label("Key").press("Enter")
        expect(dialog).to_contain_text("That is not the key")
        dialog.get_by_label("Key").fill(KEY)
        dialog.get_by_role("button").click()
        expect(shown.page.locator("#chart[data-bars]:not([data-bars='0'])")).to_be_visible()
        expect(shown.page.locator("#connection")).to_have_text(re.compile("stale|live"))  # its sockets are open
        shown.page.reload()
        shown.open()
        assert not [address for address in shown.urls if KEY in address]
        kept = shown.page.evaluate("() => [Object.values(localStorage), Object.values(sessionStorage)]")
        assert kept == [[], [KEY]]


def test_the_connection_is_told(market: MarketLake) -> None:
    with contextlib.ExitStack() as server:
        url = server.enter_context(running(market.settings, UNLIMITED))
        with watched(url) as shown:
            shown.open()
            connection = shown.page.locator("#connection")
            expect(connection).to_have_text("stale: Kafka does not answer")
            expect(shown.page.locator("#simulated")).to_be_hidden()
            server.close()
            expect(connection).to_have_text("reconnecting")
            with running(market.settings, UNLIMITED, port=int(url.rpartition(":")[2])):
                expect(connection).to_have_text("stale: Kafka does not answer")
                expect(shown.page.locator("#notice")).to_be_hidden()


def test_a_missing_chart_library_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(page_files.FOLDER, tmp_path / "page", ignore=shutil.ignore_patterns("vendor"))
    monkeypatch.setattr(page_files, "FOLDER", folder)
    with watched(url) as shown:
        shown.page.goto("/")
        expect(shown.page.get_by_role("alert")).to_contain_text("The chart library is missing on this server")
        shown.page.wait_for_timeout(2_000)
        expect(shown.page.get_by_role("alert")).to_contain_text("`make install` fetches it")
