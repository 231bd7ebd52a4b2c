"""One lake of two markets for all tests of the client, which only read it."""

from __future__ import annotations

import pytest

from lakehouse.client import Lake
from tests.support.market_lake import MarketLake


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> MarketLake:
    return MarketLake.written(tmp_path_factory.mktemp("client") / "home")


@pytest.fixture(scope="session")
def lake(market: MarketLake) -> Lake:
    return Lake.open(market.settings.home)
