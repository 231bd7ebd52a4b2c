"""One lake of two markets, with every table of Gold, and one server of it, for all tests that only read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from lakehouse.client import Lake
from lakehouse.serving.guard import Limits
from lakehouse.tables import GOLD_INDICATORS_1M, GOLD_MOVES, GOLD_SPREADS_1M
from tests.support.api_server import running
from tests.support.market_lake import MarketLake, put

#: No test of rows shall meet the limits of a server.
UNLIMITED = Limits(rate=1e9, burst=10**9)


def derived_rows(market: MarketLake) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables that follow from the bars: their form counts here, their values are Gold's business."""
    rows: dict[str, list[dict[str, Any]]] = {"indicators": [], "moves": [], "spreads": []}
    for number, bar in enumerate(market.bars(1)):
        common = {name: bar[name] for name in ("bar_start", "revision", "updated_at", "bar_date")}
        key = {"venue": bar["venue"], "symbol": bar["symbol"]}
        spans = {
            f"{name}_{span}": bar["close"] if number % 3 else None for name in ("sma", "vwap") for span in (5, 20, 60)
        }
        returns = {"minutes_since_previous": number % 5, "simple_return": Decimal("0.001"), "log_return": None}
        rows["indicators"].append({**key, "close": bar["close"], **spans, **returns, **common})
        if number % 7 == 0:
            move = {"direction": "up", "from_price": bar["open"], "to_price": bar["close"], "change": Decimal("-0.03")}
            rows["moves"].append({**key, **move, "trades": bar["trades"], "volume": bar["volume"], **common})
        if bar["venue"] == "kraken":
            prices = {"price_binance": None, "price_kraken": bar["close"], "price_coinbase": None, "venues": 1}
            nothing = dict.fromkeys(("lowest_venue", "highest_venue", "spread", "spread_bps"))
            rows["spreads"].append({"base": "ETH", "quote": "USD", **prices, **nothing, **common})
    return rows


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> MarketLake:
    made = MarketLake.written(tmp_path_factory.mktemp("serving") / "home")
    rows = derived_rows(made)
    for table, name in ((GOLD_INDICATORS_1M, "indicators"), (GOLD_MOVES, "moves"), (GOLD_SPREADS_1M, "spreads")):
        put(made.settings, table, rows[name])
    return made


@pytest.fixture(scope="session")
def truth(market: MarketLake) -> dict[str, list[dict[str, Any]]]:
    """All rows of each kind, ordered by key."""
    rows = {**derived_rows(market), "bars": market.bars(1), "trades": market.trades}
    keys = {"trades": ("venue", "symbol", "trade_id"), "spreads": ("base", "quote", "bar_start")}
    return {
        kind: sorted(
            of_kind, key=lambda row: tuple(row[name] for name in keys.get(kind, ("venue", "symbol", "bar_start")))
        )
        for kind, of_kind in rows.items()
    }


@pytest.fixture(scope="session")
def lake(market: MarketLake) -> Lake:
    return Lake.open(market.settings.home)


@pytest.fixture(scope="session")
def url(market: MarketLake) -> Iterator[str]:
    with running(market.settings, UNLIMITED) as found:
        yield found


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as http:
        yield http


def between(rows: list[dict[str, Any]], column: str, start: dt.datetime, end: dt.datetime) -> list[dict[str, Any]]:
    return [row for row in rows if start <= row[column] < end]
