"""Faults of handshakes: outages, too many attempts, and refusals in the venues' words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import websocket

from lakehouse.settings import VENUES
from lakehouse.simulator.limits import Limit, Limits
from tests.support.fault_clients import (
    TIMINGS,
    ends_without_a_close_frame,
    exchange,
    flows,
    hears,
    listening,
)
from tests.support.simulator_support import (
    SYMBOL,
    WS_PATHS,
    Client,
    Pool,
    begin,
    client,
    done,
    end_faults,
    get,
    until,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("pool"), timings=TIMINGS) as pool:
        yield pool


@pytest.mark.parametrize("how", ["503", "reset"])
def test_outage(pool: Pool, how: str) -> None:
    with pool.lend("coinbase") as server, listening(server, "coinbase") as ws:
        hears("coinbase", ws)
        url = f"{server.url}/coinbase/products/BTC-USDT/trades"
        begin(server, "outage", seconds=60, how=how, rest=how == "reset")
        assert ends_without_a_close_frame(ws)
        count = server.record.count("coinbase", SYMBOL)
        for _ in range(3):
            with pytest.raises((websocket.WebSocketException, ConnectionError)) as refusal:
                Client(server, WS_PATHS["coinbase"])
            assert getattr(refusal.value, "status_code", 0) == (503 if how == "503" else 0)
        assert get(url).status_code == (503 if how == "reset" else 200)
        assert done(server, "outage") == (4 if how == "503" else 5)
        until(lambda: server.record.count("coinbase", SYMBOL) > count)  # the market trades on
        end_faults(server)
        flows("coinbase", server)
        assert get(url).status_code == 200


def test_too_many_connection_attempts(tmp_path: Path) -> None:
    limits = Limits(attempts={"binance": Limit(3, 0.8)})
    with exchange(tmp_path, "binance", limits=limits) as server:
        for _ in range(3):
            with client(server, WS_PATHS["binance"]):
                pass
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            Client(server, WS_PATHS["binance"])
        assert refusal.value.status_code == 429
        assert refusal.value.resp_headers
        assert refusal.value.resp_headers["retry-after"] == "1"
        assert json.loads(get(f"{server.url}/admin/status").text)["attempts"] == {
            "binance": {"made": 4, "refused": 1, "peak_share": 1.0}
        }
        time.sleep(0.8)
        flows("binance", server)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("status", ["403", "418", "429", "451", "503"])
def test_refused_handshakes_in_the_venues_words(pool: Pool, venue: str, status: str) -> None:
    with pool.lend(venue) as server, listening(server, venue) as ws:
        hears(venue, ws)
        begin(server, "handshake_refused", seconds=60, status=status, retry_after=7.5, form="decimals")
        assert ends_without_a_close_frame(ws)
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            Client(server, WS_PATHS[venue])
        assert refusal.value.status_code == int(status)
        headers, body = refusal.value.resp_headers, refusal.value.resp_body
        assert headers
        assert body
        assert float(headers["retry-after"]) == pytest.approx(7.5, abs=0.01)
        said = {"403": b"blocked", "418": b"banned until", "429": b"1015", "451": b"restricted location", "503": b"503"}
        assert (b"-1003" if (venue, status) == ("binance", "429") else said[status]) in body
        if (venue, status) == ("binance", "451"):
            assert body == b'{"code":0,"msg":"Service unavailable from a restricted location."}'
        assert done(server, "handshake_refused") == 2
        end_faults(server)
        flows(venue, server)


def test_refused_handshakes_name_what_is_left_in_every_form(pool: Pool) -> None:
    with pool.lend("kraken") as server, listening(server, "kraken") as ws:

        def named(**fault: Any) -> dict[str, str]:
            begin(server, "handshake_refused", seconds=30, cut=False, **fault)
            with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
                Client(server, WS_PATHS["kraken"])
            end_faults(server)
            hears("kraken", ws)  # it was not cut
            assert refusal.value.resp_headers
            headers: dict[str, str] = refusal.value.resp_headers
            return {**headers, "status": str(refusal.value.status_code)}

        assert "retry-after" not in named(form="none", status="429")
        assert named(form="seconds")["retry-after"] == "30"
        assert 29 < float(named(form="decimals")["retry-after"]) < 30.1
        date = parsedate_to_datetime(named(form="date")["retry-after"])
        assert 28 < (date - datetime.now(UTC)).total_seconds() <= 31
        assert {named()["status"] for _ in range(20)} <= {"418", "429", "503"}
