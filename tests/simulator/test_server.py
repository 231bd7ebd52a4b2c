"""The simulator as a server and as a command: restart, admin, faults' place, signals, clear errors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import websocket

from lakehouse.errors import MissingDependencyError, SettingError
from lakehouse.simulator.faults.model import Cut, Frame, NoFaults, Peer, View
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.record import Record, file_of
from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import binance_trade, client, get, running, truth

STREAM = "/binance/ws/btcusdt@trade?timeUnit=MICROSECOND"


def test_ids_and_prices_go_on_after_a_restart_and_a_torn_record(tmp_path: Path) -> None:
    with running(tmp_path) as server, client(server, STREAM) as ws:
        ws.drain(0.01)
    before = truth(Record(tmp_path), "binance", "BTC/USDT")
    with file_of(tmp_path, "binance", "BTC/USDT").open("ab") as file:
        file.write(b"torn")
    with running(tmp_path, seed=2) as server, client(server, STREAM) as ws:
        page = get(f"{server.url}/binance/api/v3/trades?symbol=BTCUSDT&limit=1").json()
        first = binance_trade(ws.receive(), "BTC/USDT")
        assert first.trade_id == before[-1].trade_id + 1
        assert float(first.price) == pytest.approx(float(before[-1].price), rel=0.01)
        assert page[0]["id"] >= before[-1].trade_id
    after = truth(Record(tmp_path), "binance", "BTC/USDT")
    assert after[: len(before)] == before
    assert [t.trade_id for t in after] == list(range(after[0].trade_id, after[0].trade_id + len(after)))


def test_a_market_trades_on_when_nobody_listens_unless_paused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with client(server, STREAM) as ws:
            ws.receive()
        count = server.record.count("binance", "BTC/USDT")
        deadline = time.monotonic() + 5
        while server.record.count("binance", "BTC/USDT") < count + 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert httpx.post(f"{server.url}/admin/pause").json() == {"paused": True}
        count = server.record.count("binance", "BTC/USDT")
        time.sleep(0.2)
        assert server.record.count("binance", "BTC/USDT") == count
        httpx.post(f"{server.url}/admin/resume")
        with client(server, STREAM) as ws:
            ws.receive()
        assert server.record.count("binance", "BTC/USDT") > count


def test_admin_status_and_record(tmp_path: Path) -> None:
    with running(tmp_path, venues=("binance",)) as server, client(server, STREAM) as ws:
        for _ in range(30):
            ws.receive()
        server.pause()
        ws.drain(0.1)
        true = truth(server.record, "binance", "BTC/USDT")
        status = get(f"{server.url}/admin/status").json()
        assert status == {**server.status(), "uptime_seconds": status["uptime_seconds"], "rate": status["rate"]}
        assert (status["paused"], status["error"], status["replay_ended"]) == (True, None, None)
        assert status["connections"] == {"binance": 1}
        market = status["markets"][0]
        assert (market["symbol"], market["is_open"], market["subscribers"]) == ("BTC/USDT", True, 1)
        assert market["made"] == market["sent"] == market["recorded"] == len(true)
        assert (market["first_id"], market["last_id"]) == (true[0].trade_id, true[-1].trade_id)
        assert not status["markets"][1]["is_open"]

        url = f"{server.url}/admin/record/binance/BTC-USDT"
        page = get(f"{url}?from_id={true[3].trade_id}&limit=2").json()
        got = [(t["trade_id"], t["price"], t["size"], t["side"], t["ts_event"]) for t in page["trades"]]
        assert got == [(t.trade_id, f"{t.price:f}", f"{t.size:f}", t.side, t.ts_event) for t in true[3:5]]
        assert page["next_id"] == true[5].trade_id
        assert get(f"{url}?limit=10000").json()["next_id"] is None
        assert get(f"{server.url}/admin/record/binance/NO-PE").status_code == 404
        assert get(f"{url}?from_id=x").status_code == 400


def test_the_rate_is_reached(tmp_path: Path) -> None:
    with running(tmp_path, rate=2000.0, venues=("kraken",)) as server, client(server, "/kraken/v2") as ws:
        symbols = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
        ws.send({"method": "subscribe", "params": {"channel": "trade", "symbol": symbols, "snapshot": False}})
        began, count = time.monotonic(), 0
        while (passed := time.monotonic() - began) < 2.0:
            message = ws.receive()
            count += len(message["data"]) if message.get("channel") == "trade" else 0
        assert count / passed == pytest.approx(2000, rel=0.15)


class DropsAndCuts(NoFaults):
    """Every third trade is lost, ids have a gap, REST lags, and the 20th trade frame ends the connection."""

    active = True

    def __init__(self) -> None:
        self.seen = 0

    def outgoing(self, peer: Peer, frames: list[Frame]) -> Sequence[Frame | Cut]:  # noqa: ARG002
        out: list[Frame | Cut] = []
        for frame in frames:
            self.seen += 1
            if self.seen == 20:
                out.append(Cut(1006))
            if self.seen % 3:
                out.append(frame)
        return out

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        return 5

    def view(self, venue: str, symbol: str) -> View:  # noqa: ARG002
        return View(lag_ids=12)


def test_faults_have_their_place(tmp_path: Path) -> None:
    with running(tmp_path, faults=DropsAndCuts(), venues=("binance",)) as server, client(server, STREAM) as ws:
        got = []
        with contextlib.suppress(websocket.WebSocketConnectionClosedException, ConnectionError):
            while True:
                got.append(binance_trade(ws.receive(), "BTC/USDT"))
        server.pause()
        true = truth(server.record, "binance", "BTC/USDT")
        assert got == [trade for place, trade in enumerate(true[:19], 1) if place % 3]
        assert true[-1].trade_id - true[0].trade_id >= len(true) + 4
        rest = get(f"{server.url}/binance/api/v3/trades?symbol=BTCUSDT").json()
        assert [row["id"] for row in rest] == [t.trade_id for t in true[:-12]]


def test_a_record_that_cannot_be_written_halts_trading(tmp_path: Path) -> None:
    with running(tmp_path, venues=("binance",)) as server:
        folder = tmp_path / "binance"
        folder.write_text("a file where the folder should be")
        with client(server, STREAM) as ws:
            assert ws.drain(0.2) == []
            status = server.status()
            assert status["paused"]
            assert "cannot write the record of binance BTC/USDT" in status["error"]
            folder.unlink()
            server.resume()
            assert binance_trade(ws.receive(), "BTC/USDT") == truth(server.record, "binance", "BTC/USDT")[0]


def test_a_busy_port_and_a_busy_folder(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(MissingDependencyError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            SimulatorServer(SimulatorOptions(record=tmp_path / "other", port=port)).start()
        with pytest.raises(SettingError, match="in use by another simulator"):
            SimulatorServer(SimulatorOptions(record=tmp_path)).start()
    with running(tmp_path, port=port):  # both are free again at once
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.5}, "rate 0.5 trades/s; expected 1 to 20000"),
        ({"rate": 20_001}, "expected 1 to 20000"),
        ({"speed": -1}, "speed -1"),
        ({"venues": ("mtgox",)}, "unknown venue 'mtgox'; expected one of binance, kraken, coinbase"),
        ({"symbols": ("BTC",)}, "symbol 'BTC'"),
        ({"symbols": ()}, "no symbols"),
        ({"port": 70_000}, "port 70000"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SimulatorOptions(record=tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stops_within_two_seconds(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", "from lakehouse.cli import main; main()", "simulate", "--ready-file", str(ready)]
    command += ["--record", str(tmp_path / "record"), "--venues", "binance", "--symbols", "xbt-usdt", "--rate", "500"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONWARNINGS": "error"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 15
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ws = websocket.create_connection(ready.read_text().replace("http", "ws", 1) + STREAM, timeout=5)
        ws.recv()
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
        assert time.monotonic() - began < 2.0
        assert process.returncode == 0
        assert err == b""
        assert not ready.exists()
        assert b"simulated exchange at http://127.0.0.1:" in out
        ws.shutdown()  # type: ignore[no-untyped-call]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_the_command_tells_of_a_busy_port_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", "from lakehouse.cli import main; main()", "simulate"]
        command += ["--port", str(taken.getsockname()[1]), "--record", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 69
    assert done.stderr.startswith("lakehouse: cannot listen on 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
