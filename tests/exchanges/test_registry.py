"""The venues by name: their addresses, their names for symbols, their limits."""

from __future__ import annotations

import pytest

from lakehouse.errors import SettingError
from lakehouse.exchanges.registry import COARSEST_TIME_MICROS, VENUES, venue
from lakehouse.settings import VENUES as VENUE_NAMES
from lakehouse.simulator.venues.registry import VENUES as SIMULATED
from lakehouse.tables import SPREAD_VENUES


def test_registry_and_settings_name_the_same_venues() -> None:
    assert tuple(VENUES) == VENUE_NAMES
    assert [venue(name).name for name in VENUES] == list(VENUES)
    assert tuple(SIMULATED) == VENUE_NAMES == SPREAD_VENUES


def test_what_is_true_of_one_venue_alone() -> None:
    assert [name for name, one in VENUES.items() if one.joins_names] == ["binance"]
    assert {name: one.lifetime_seconds for name, one in VENUES.items() if one.lifetime_seconds} == {
        "binance": 23 * 3600.0
    }
    assert {name: one.time_micros for name, one in VENUES.items()} == {"binance": 1000, "kraken": 1, "coinbase": 1000}
    assert COARSEST_TIME_MICROS == 1000  # silver/trades calls two times the same by it


def test_unknown_venue() -> None:
    with pytest.raises(SettingError, match="unknown venue 'mtgox'; expected one of binance, kraken, coinbase"):
        venue("mtgox")


@pytest.mark.parametrize("base", ["ws://127.0.0.1:9", "http://127.0.0.1:9/"])
@pytest.mark.parametrize(
    ("name", "websocket", "rest"),
    [
        (
            "binance",
            "ws://127.0.0.1:9/binance/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND",
            "http://127.0.0.1:9/binance",
        ),
        ("kraken", "ws://127.0.0.1:9/kraken/v2", "http://127.0.0.1:9/kraken"),
        ("coinbase", "ws://127.0.0.1:9/coinbase", "http://127.0.0.1:9/coinbase"),
    ],
)
def test_simulator_addresses(base: str, name: str, websocket: str, rest: str) -> None:
    found = venue(name)
    assert found.websocket_url(base, ["BTC/USDT", "ETH/USDT"]) == websocket
    assert found.rest_url(base) == rest
    assert found.websocket_url(None, ["BTC/USDT"]).startswith("wss://")
    assert found.rest_url(None).startswith("https://")


@pytest.mark.parametrize(
    ("name", "native"), [("binance", "DOGEUSDT"), ("kraken", "DOGE/USDT"), ("coinbase", "DOGE-USDT")]
)
def test_names_go_both_ways(name: str, native: str) -> None:
    assert venue(name).native("DOGE/USDT") == native
    assert venue(name, ["DOGE/USDT"]).canonical(native) == "DOGE/USDT"
    assert venue(name).native("XDG/USDT") == native


@pytest.mark.parametrize("name", VENUES)
def test_liveness_limits_are_those_of_the_venue(name: str) -> None:
    found = venue(name)
    assert found.silence_seconds == {"binance": 60, "kraken": 5, "coinbase": 5}[name]
    assert (found.ping is None) == (found.ping_seconds == 0)
