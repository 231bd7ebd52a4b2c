"""silver/trades against a real simulated exchange's record, over its admin API."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from lakehouse.audit import simulated
from lakehouse.audit.report import Report
from lakehouse.audit.run import Options, audit
from lakehouse.cli import build_app
from lakehouse.errors import TerminalError
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from lakehouse.tables import SILVER_TRADES
from tests.support.audit_lake import AuditLake, Breaking
from tests.support.audit_messages import messages, trade
from tests.support.simulator_support import client, running, truth

BOTH = {"type": "subscribe", "product_ids": ["BTC-USDT", "ETH-USDT"], "channels": ["matches"]}
BTC, ETH = ("coinbase", "BTC/USDT"), ("coinbase", "ETH/USDT")


def run_markets(server: SimulatorServer, trades: int, message: dict[str, Any] = BOTH) -> None:
    """Let the markets trade a little; they are paused afterwards."""
    server.resume()
    with client(server, "/coinbase") as ws:
        ws.send(message)
        seen = 0
        while seen < trades:
            seen += ws.receive()["type"] == "match"
    server.pause()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorServer]:
    """An exchange that has traded, and is halted."""
    folder = tmp_path_factory.mktemp("record")
    with running(folder, venues=("coinbase",), symbols=("BTC/USDT", "ETH/USDT")) as server:
        run_markets(server, 300)
        yield server


@pytest.fixture
def lake(tmp_path: Path) -> AuditLake:
    return AuditLake.empty(tmp_path)


def as_messages(trades: list[TrueTrade]) -> list[Any]:
    return messages(
        *(
            trade(
                one.trade_id,
                venue=one.venue,
                symbol=one.symbol,
                price=f"{one.price:f}",
                size=f"{one.size:f}",
                side=one.side,
                ts_event=one.ts_event,
            )
            for one in trades
        )
    )


def fill(lake: AuditLake, server: SimulatorServer, skip: int = 0, breaking: Breaking | None = None) -> None:
    trades = [one for key in (BTC, ETH) for one in truth(server.record, *key)[skip:]]
    lake.batch(as_messages(trades), breaking)


def against(lake: AuditLake, server: SimulatorServer, **options: Any) -> Report:
    return audit(lake.settings, Options(server.url, **options))


def figures(report: Report) -> dict[str, tuple[int, ...]]:
    assert report.simulated is not None
    names = ("equal", "unlike", "missing", "not_recorded", "before_first", "not_yet")
    return {one.symbol: tuple(getattr(one, name) for name in names) for one in report.simulated.markets}


@pytest.mark.parametrize("page", [7, 10_000])
def test_equal_key_by_key(lake: AuditLake, market: SimulatorServer, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(simulated, "PAGE_TRADES", page)  # pages end within the record, and in the middle of a compare
    fill(lake, market)
    report = against(lake, market, strict=True, from_beginning=True)
    assert report.faults == []
    recorded = {key[1]: market.record.count(*key) for key in (BTC, ETH)}
    assert figures(report) == {symbol: (count, 0, 0, 0, 0, 0) for symbol, count in recorded.items()}


def test_the_command_compares_and_says_so(lake: AuditLake, market: SimulatorServer) -> None:
    fill(lake, market)
    home = str(lake.settings.home)
    arguments = ["audit", "--home", home, "--against-simulator", "--simulator-url", market.url]
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 0, result.output
    count = market.record.count(*BTC)
    assert f"coinbase BTC/USDT {count} 0 0 0 0 0" in " ".join(result.stdout.split())
    answer = json.loads(CliRunner().invoke(build_app(), [*arguments, "--json"]).stdout)
    assert answer["simulated"]["markets"][0]["equal"] == count
    unknown = CliRunner().invoke(build_app(), ["audit", "--home", home, "--against-simulator"])
    assert unknown.exit_code != 0
    assert "no simulator is known for" in str(unknown.exception)


def test_what_was_traded_before_the_first_is_counted_apart(lake: AuditLake, market: SimulatorServer) -> None:
    fill(lake, market, skip=5)
    report = against(lake, market)
    assert report.faults == []
    assert [market[4] for market in figures(report).values()] == [5, 5]
    strict = against(lake, market, from_beginning=True)
    assert strict.faults == [
        "coinbase BTC/USDT: 5 recorded trades from before the first in Silver",
        "coinbase ETH/USDT: 5 recorded trades from before the first in Silver",
    ]


def test_what_is_traded_meanwhile_is_not_there_yet(lake: AuditLake, tmp_path: Path) -> None:
    with running(tmp_path / "record", venues=("coinbase",), symbols=("BTC/USDT", "ETH/USDT")) as server:
        run_markets(server, 60)
        fill(lake, server)
        held = {key[1]: server.record.count(*key) for key in (BTC, ETH)}
        run_markets(server, 60)
        report = against(lake, server)
        assert report.faults == []
        for key in (BTC, ETH):
            newer = server.record.count(*key) - held[key[1]]
            assert newer > 0
            assert figures(report)[key[1]] == (held[key[1]], 0, 0, 0, 0, newer)
        assert "recorded trades beyond the last in Silver" in against(lake, server, strict=True).faults[0]


def changed(column: str, value: str) -> Callable[[AuditLake, int], None]:
    def change(lake: AuditLake, trade_id: int) -> None:
        lake.update(SILVER_TRADES, f"symbol = 'BTC/USDT' AND trade_id = {trade_id}", **{column: value})

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("price", "price + CAST(0.000000000000000001 AS DECIMAL(38, 18))"),
        changed("size", "size * 2"),
        changed("side", "CASE WHEN side = 'buy' THEN 'sell' ELSE 'buy' END"),
        changed("ts_event", "ts_event + INTERVAL '1 microsecond'"),
    ],
)
def test_any_other_value_fails(lake: AuditLake, market: SimulatorServer, change: Any) -> None:
    victim = truth(market.record, *BTC)[10].trade_id
    fill(lake, market, breaking=lambda broken: change(broken, victim))
    report = against(lake, market)
    assert figures(report)["BTC/USDT"][1] == 1
    assert any(f"coinbase BTC/USDT trade {victim}: " in fault and "recorded" in fault for fault in report.faults)


def test_a_missing_trade_fails_and_is_named_with_the_ledgers_word(lake: AuditLake, market: SimulatorServer) -> None:
    trades = truth(market.record, *BTC)
    lost = trades[10]
    lake.batch(as_messages([one for one in trades if one != lost] + truth(market.record, *ETH)))
    report = against(lake, market)
    assert report.faults == [f"coinbase BTC/USDT: 1 recorded trade missing: 1 open by the ledger: {lost.trade_id}"]
    lake.unavailable.append((*BTC, lost.trade_id, lost.trade_id))
    lake.batch(as_messages(trades[:1]))
    assert "1 unavailable by the ledger" in against(lake, market).faults[0]


def test_an_invented_trade_fails(lake: AuditLake, market: SimulatorServer) -> None:
    fill(lake, market)
    above = truth(market.record, *BTC)[-1].trade_id + 1
    lake.batch(messages(trade(above, venue="coinbase"), trade(1, venue="kraken")))
    report = against(lake, market)
    assert report.faults == [
        "kraken BTC/USDT: in silver/trades, and no market of the simulated exchange",
        f"coinbase BTC/USDT trade {above}: in silver/trades, never recorded",
    ]
    assert figures(report)["BTC/USDT"][3] == 1


def test_an_invented_trade_among_the_recorded_ones_fails(lake: AuditLake, tmp_path: Path) -> None:
    with running(tmp_path / "record", venues=("coinbase",), symbols=("BTC/USDT",)) as server:
        message = BOTH | {"product_ids": ["BTC-USDT"]}
        run_markets(server, 20, message)
        fault = {"kind": "id_holes", "venue": "coinbase", "seconds": 60, "ids": 4, "every": 0.02}
        httpx.post(f"{server.url}/admin/faults", json=fault, verify=False, trust_env=False).raise_for_status()
        run_markets(server, 60, message)
        recorded = truth(server.record, *BTC)
        pairs = itertools.pairwise(one.trade_id for one in recorded)
        invented = next(before + 1 for before, after in pairs if after > before + 1)
        lake.batch([*as_messages(recorded), *messages(trade(invented, venue="coinbase"))])
        report = against(lake, server)
        assert report.faults == [f"coinbase BTC/USDT trade {invented}: in silver/trades, never recorded"]
        assert figures(report)["BTC/USDT"][:4] == (len(recorded), 0, 0, 1)


def test_a_market_that_never_came_in_fails_unless_it_is_young(lake: AuditLake, market: SimulatorServer) -> None:
    young = truth(market.record, *ETH)[0].ts_event
    lake.at = young
    lake.batch(as_messages(truth(market.record, *BTC)))
    report = against(lake, market)
    assert report.faults == []
    assert figures(report)["ETH/USDT"][5] == market.record.count(*ETH)
    lake.at = young + 200_000_000
    lake.batch(as_messages(truth(market.record, *BTC)[:1]))
    (fault,) = against(lake, market).faults
    assert fault.startswith(f"coinbase ETH/USDT: {market.record.count(*ETH)} trades recorded since ")


def test_what_is_no_simulator_is_one_line(lake: AuditLake, market: SimulatorServer) -> None:
    fill(lake, market)
    with pytest.raises(TerminalError, match=r"no answer of a simulator at http://127.*:1/admin/status"):
        audit(lake.settings, Options("http://127.0.0.1:1"))
    with pytest.raises(TerminalError, match=r"no answer of a simulator at .*/nowhere"):
        audit(lake.settings, Options(f"{market.url}/nowhere"))
