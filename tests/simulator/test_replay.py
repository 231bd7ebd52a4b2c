"""Recorded frames sent again: in order, byte for byte, at the right pace, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.playback import open_recording
from lakehouse.simulator.recorded_symbols import replay_symbols
from lakehouse.simulator.timings import Timings
from tests.support.simulator_support import begin, client, running

DATA = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data beside the project")

ASKED = '{"type":"subscribe","product_ids":["BTC-USD","SKL-GBP"],"channels":["matches"]}'
FRAMES = [f'{{"type":"match","trade_id":{number},"note":"a: b"}}' for number in range(20)]


def coinbase_file(folder: Path, spacing: float = 0.05, frames: list[str] = FRAMES) -> Path:
    lines = [
        "wss://ws-feed.exchange.coinbase.com <-> 1618677816.84",
        f"wss://ws-feed.exchange.coinbase.com <- 1618677817.02: {ASKED}",
    ]
    lines += [f"{1618677817.1 + place * spacing}: {frame}" for place, frame in enumerate(frames)]
    path = folder / "some.ws"
    path.write_text("\n".join([*lines[:5], "", "torn line", *lines[5:], "", ""]))
    return path


def test_frames_come_after_the_subscription_in_order_and_in_time(tmp_path: Path) -> None:
    path = coinbase_file(tmp_path)
    assert replay_symbols(path) == ("coinbase", ("BTC/USD", "SKL/GBP"))
    with running(tmp_path / "record", replays=(path,), speed=2.0, timings=Timings(heartbeat=0.2)) as server:
        with client(server, "/coinbase") as ws:
            assert ws.drain(0.2) == []
            began = time.monotonic()
            ws.send(ASKED)
            got = [ws.raw() for _ in range(21)]
            # 19 gaps of 50 ms at twice the pace.
            assert 0.45 < time.monotonic() - began < 5
            assert [text for text in got if '"note"' in text] == FRAMES
            status = server.status()
            expected = {"venue": "coinbase", "file": "some.ws", "frames_sent": 20, "bad_lines": 1, "ended": True}
            assert status["replays"] == [expected]
            assert status["replay_ended"] is True
        with client(server, "/coinbase") as ws:
            # The end is quiet but alive: a heartbeat that names no trade, and nothing again.
            ws.send({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]})
            assert ws.receive()["type"] == "subscriptions"
            beat = ws.receive()
            assert (beat["type"], beat["last_trade_id"], beat["product_id"]) == ("heartbeat", 0, "BTC-USD")
        # The other venues trade on; the replayed one has no market.
        assert {market["venue"] for market in server.status()["markets"]} == {*VENUES} - {"coinbase"}


def test_faults_also_hit_recorded_frames(tmp_path: Path) -> None:
    with running(tmp_path / "record", replays=(coinbase_file(tmp_path, spacing=0.01),)) as server:
        begin(server, "newest_first", venue="coinbase", window=1.0, seconds=60)
        with client(server, "/coinbase") as ws:
            ws.send(ASKED)
            got = [text for text in (ws.raw() for _ in range(21)) if '"note"' in text]
            assert got == FRAMES[::-1]


def test_a_second_connection_gets_what_is_left(tmp_path: Path) -> None:
    path = coinbase_file(tmp_path, spacing=0.02)
    with running(tmp_path / "record", replays=(path,)) as server:
        got: list[str] = []
        with client(server, "/coinbase") as ws:
            ws.send(ASKED)
            while len(got) < 5:
                text = ws.raw()
                got += [text] if '"note"' in text else []
        time.sleep(0.1)  # nobody listens: the replay waits
        with client(server, "/coinbase") as ws:
            ws.send(ASKED)
            rest = [text for text in (ws.raw() for _ in range(12)) if '"note"' in text]
        assert rest == FRAMES[20 - len(rest) :] or rest == FRAMES[FRAMES.index(rest[0]) :][: len(rest)]
        # At most a frame or two were under way to the one that left.
        assert FRAMES.index(rest[0]) - len(got) <= 2


def test_two_files_of_a_venue_as_fast_as_possible(tmp_path: Path) -> None:
    many = [f'{{"number":{number},"pad":"{"x" * 100}"}}' for number in range(5000)]
    (tmp_path / "a").mkdir()
    files = (coinbase_file(tmp_path / "a", 60.0, many), coinbase_file(tmp_path))
    with running(tmp_path / "record", replays=files, speed=0.0) as server, client(server, "/coinbase") as ws:
        ws.send(ASKED)
        ws.receive()
        assert [ws.raw() for _ in range(5020)] == many + FRAMES


def test_pause_halts_a_replay(tmp_path: Path) -> None:
    with running(tmp_path / "record", replays=(coinbase_file(tmp_path),), speed=0.0) as server:
        server.pause()
        with client(server, "/coinbase") as ws:
            ws.send(ASKED)
            assert [message["type"] for message in ws.drain(0.2)] == ["subscriptions"]
            server.resume()
            assert ws.raw() == FRAMES[0]


@real_data
def test_the_recorded_files(tmp_path: Path) -> None:
    files = sorted(DATA.glob("*.ws"))
    symbols = {path.name.split("-")[0]: replay_symbols(path) for path in files}
    assert symbols["binance"] == ("binance", ("CRV/USDT", "COMP/USDT", "OMG/BUSD", "ZRX/USDT"))
    assert symbols["kraken"][1][:3] == ("WAVES/EUR", "XMR/USD", "KSM/BTC")
    assert len(symbols["coinbase"][1]) == 10
    with running(tmp_path, replays=tuple(files), speed=0.0) as server:
        with client(server, "/kraken/v2") as ws:
            ws.send({"method": "subscribe", "params": {"channel": "trade", "symbol": list(symbols["kraken"][1])}})
            replies = [ws.receive() for _ in range(10)]
            assert all(reply["success"] for reply in replies)
            frames = [frame.decode() for _, frame in open_recording(files[2]).frames()]
            assert [ws.raw() for _ in frames] == frames
            assert ws.receive() == {"event": "heartbeat"}
        streams = "/".join(f"{symbol.replace('/', '').lower()}@trade" for symbol in symbols["binance"][1])
        with client(server, f"/binance/stream?streams={streams}") as ws:
            frames = [frame.decode() for _, frame in open_recording(files[0]).frames()]
            assert [ws.raw() for _ in frames] == frames
        with client(server, "/coinbase") as ws:
            ws.send({"type": "subscribe", "product_ids": ["BAND-BTC"], "channels": ["matches"]})
            ws.receive()
            frames = [frame.decode() for _, frame in open_recording(files[1]).frames()]
            assert [ws.raw() for _ in frames] == frames
        assert server.record.keys() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "no address"),
        ("1618677817.02: {}\n", "no address"),
        ("wss://example.org/feed <-> 1.0\n", "with a host of binance"),
    ],
)
def test_a_file_that_is_no_recording(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "some.ws"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingError, match=message):
        replay_symbols(path)


def test_a_file_without_symbols(tmp_path: Path) -> None:
    path = tmp_path / "some.ws"
    path.write_text("wss://ws.kraken.com/v2 <-> 1.0\n2.0: {}\n")
    with pytest.raises(SettingError, match="names no symbols"):
        replay_symbols(path)


def test_kraken_v2_and_binance_subscriptions_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some.ws"
    asked = '{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD","DOGE/EUR"]}}'
    path.write_text(f"wss://ws.kraken.com/v2 <-> 1.0\nwss://ws.kraken.com/v2 <- 1.5: {asked}\n2.0: {{}}\n")
    assert replay_symbols(path) == ("kraken", ("BTC/USD", "DOGE/EUR"))
    asked = '{"method":"SUBSCRIBE","params":["btcusdt@trade","bnbbtc@trade"],"id":1}'
    path.write_text(f"wss://stream.binance.com:9443/ws <-> 1.0\nwss://stream.binance.com:9443/ws <- 1.5: {asked}\n")
    assert replay_symbols(path) == ("binance", ("BTC/USDT", "BNB/BTC"))
