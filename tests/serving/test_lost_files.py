"""A server of a lake that has lost a data file: the client is told which, and to come again."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lakehouse.tables import GOLD_BARS_1M, GOLD_BARS_5M, SILVER_TRADES, Table
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import running, serving
from tests.support.damage import lose
from tests.support.market_lake import MarketLake

FROM = "from=2026-11-01T12:00:00Z"


@pytest.fixture
def market(tmp_path: Path) -> MarketLake:
    return MarketLake.written(tmp_path / "home", hours=3)


@pytest.mark.parametrize(
    ("table", "wish"),
    [(SILVER_TRADES, "kind=trades"), (GOLD_BARS_1M, "kind=bars"), (GOLD_BARS_5M, "kind=bars&size=10m")],
)
def test_a_stream_ends_with_try_again_later(market: MarketLake, table: Table, wish: str) -> None:
    lost = lose(market.settings, table)
    with running(market.settings, UNLIMITED) as url:
        path = f"{url.replace('http', 'ws')}/v1/stream?venue=kraken&symbol=ETH/USD&{wish}&{FROM}"
        with connect(path, open_timeout=20) as socket, pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=20)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1013
    assert caught.value.rcvd.reason.startswith(f"version 1 of {table.path} cannot be read (part-")
    assert lost[0][:20] in caught.value.rcvd.reason


@pytest.mark.parametrize(
    ("table", "path"),
    [
        (SILVER_TRADES, "trades"),
        (SILVER_TRADES, "completeness?start=2026-11-01T12:00:00Z"),
        (GOLD_BARS_1M, "bars"),
        (GOLD_BARS_5M, "bars?size=10m&fill=forward"),
    ],
)
def test_a_request_is_told_that_the_version_is_gone(market: MarketLake, table: Table, path: str) -> None:
    [lost] = lose(market.settings, table)
    with serving(market.settings, UNLIMITED) as client:
        answer = client.get(f"/v1/{path}")
    assert answer.status_code == 410, answer.text
    assert answer.json()["detail"].startswith(f"version 1 of {table.path} cannot be read ({lost} is gone)")
