"""The check of this machine's clock, by what is in the tables."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from lakehouse.quality.checks import CHECKS, CheckResult
from lakehouse.quality.model import Look
from lakehouse.settings import Settings
from tests.support.host_clock import SECOND, Host
from tests.support.rows import NOON_US, empty_lake, utc


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(empty_lake(tmp_path))


def check(settings: Settings, look: Look = Look.LATELY) -> CheckResult:
    found = next(one for one in CHECKS if one.name == "clock_agrees")
    assert not found.blocking
    return found.evaluate(settings, look)


@pytest.mark.parametrize("look", Look)
def test_a_slow_host_is_found_though_every_trade_is_in_quarantine(host: Host, look: Look) -> None:
    for second in range(20):
        host.gets(second, slow=61.2)
        host.gets(second, slow=61.2, venue="kraken", delay=0.15)
    host.write()
    assert not host.trades
    result = check(host.settings, look)
    assert not result.passed
    assert result.detail == (
        "trades of binance and kraken are received 61 s before their own time: this machine's clock is about 61 s "
        "slow; set it by NTP."
    )
    assert result.figures == {
        "trades": 40,
        "venues": 2,
        "offset_seconds_binance": -61.1,
        "offset_seconds_kraken": -61.05,
    }


def test_a_slow_host_within_the_tolerance_is_found_too(host: Host) -> None:
    for second in range(20):
        host.gets(second, slow=20)
    host.write()
    assert not host.refused
    assert "about 20 s slow" in check(host.settings).detail


def test_a_fast_host(host: Host) -> None:
    for second in range(20):
        host.gets(second, slow=-90)
        host.gets(second, slow=-90, venue="coinbase")
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert "this machine's clock is about 90 s fast" in result.detail


@pytest.mark.parametrize("venues", [("binance", "kraken"), ("binance", "kraken", "coinbase")])
@pytest.mark.parametrize("days", [1.1, 2, 9])
def test_a_host_that_is_fast_by_days(host: Host, venues: tuple[str, ...], days: float) -> None:
    for second in range(100):
        for venue in venues:
            host.gets(second, slow=-days * 86_400, venue=venue)
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert f"this machine's clock is about {days * 86_400:.0f} s fast; set it by NTP." in result.detail
    assert result.figures["venues"] == len(venues)
    played = host.settings.model_copy(update={"simulator_url": "http://127.0.0.1:1"})
    assert check(played).passed


def test_a_recording_is_named_as_what_it_may_be(host: Host) -> None:
    for second in range(200):
        now = NOON_US + second * SECOND
        host.has(now - 2 * 86_400 * SECOND, now, now)
        host.has(now - 9 * 86_400 * SECOND, now, now, venue="kraken")
    host.write()
    result = check(host.settings)
    assert result.passed
    note = "(a recording that is played, or this machine's clock: no other venue is as late)"
    assert result.detail == (
        "From event to receipt of 400 live trades of the last minutes, median: "
        f"binance 172800.0 s {note}, kraken 777600.0 s {note}."
    )
    assert result.figures == {"trades": 400, "venues": 0}


def test_one_venue_alone_wrong_by_five_minutes(host: Host) -> None:
    for second in range(20):
        host.gets(second, ahead=300)
        host.gets(second, venue="kraken")
    host.write()
    result = check(host.settings)
    assert not result.passed
    assert result.detail.endswith("the clock of binance is about 300 s fast, and this machine's clock is right.")


def test_a_clock_that_was_corrected_passes_again(host: Host) -> None:
    for second in range(100):
        host.gets(second, slow=61)
    for second in range(100, 900):
        host.gets(second)
    host.write()
    assert check(host.settings).passed


def test_a_clock_that_was_set_back_is_found_at_once(host: Host) -> None:
    """Rows that were received before the clock was set back have times that, by the clock of now, are yet to come."""
    now = (dt.datetime.now(dt.UTC) - utc(NOON_US)).total_seconds()
    for number in range(600):
        host.gets(now + number)
    for number in range(50):
        host.gets(now + 600 + number, slow=600 + 60)
    host.write()
    assert "this machine's clock is about 660 s slow" in check(host.settings).detail


def test_what_says_nothing_of_the_clock(host: Host) -> None:
    for second in range(20):
        host.gets(second)
        host.gets(second - 3_000, source="snapshot", delay=3_000)
        host.gets(second - 3_000, source="repair", delay=3_000)
        host.has(NOON_US, NOON_US - 61 * SECOND, NOON_US + 100 * SECOND)  # replayed after a fix
    host.gets(20, ahead=300)
    host.write()
    result = check(host.settings)
    assert result.passed
    assert result.detail == "From event to receipt of 21 live trades of the last minutes, median: binance 0.1 s."


def test_too_few_trades(host: Host) -> None:
    host.gets(0, slow=61)
    host.write()
    assert check(host.settings).passed
    assert "too few for a word" in check(host.settings).detail
