"""The admin address of the faults: what it takes, shows and refuses; the schedule; the command's options."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.faults.kinds import KINDS, FaultError, read_fault
from lakehouse.simulator.faults.model import NoFaults
from lakehouse.simulator.faults.schedule import Planned, as_lines, plan
from lakehouse.simulator.options import SimulatorOptions
from tests.support.simulator_support import SYMBOL, begin, end_faults, get, running, until

SYMBOLS = ("BTC/USDT", "ETH/USDT")
#: The kinds of fault that the simulator was asked to have, name by name.
ASKED_FOR = [
    "drop", "duplicate", "reorder", "newest_first", "silent", "ack_silent", "cut_1006", "cut_1008", "day_end",
    "server_shutdown", "no_pong", "snapshot_overlap", "outage", "rest_lag", "rest_429", "rest_418",
    "handshake_refused", "rest_error", "kraken_rate_limit", "rest_slow", "id_holes", "garbage", "conflict",
    "refuse_passing",
]  # fmt: skip


def test_every_kind_that_was_asked_for() -> None:
    assert set(ASKED_FOR) <= set(KINDS)
    assert set(KINDS) - set(ASKED_FOR) == {"mute", "rest_late_rows", "retention", "venue_clock"}


def test_begin_show_and_end(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert begin(server, "drop", venue="kraken", symbol="btc-usdt", seconds=30, share=0.25) == 1
        assert server.fault("rest_slow", delay=0.5) == 2
        shown = get(f"{server.url}/admin/faults").json()
        first, second = shown["active"]
        assert 29 < first.pop("left") <= 30
        assert first == {
            "id": 1, "kind": "drop", "venue": "kraken", "symbol": "BTC/USDT", "seconds": 30, "share": 0.25, "done": 0,
        }  # fmt: skip
        assert (second["venue"], second["symbol"], second["seconds"], second["delay"]) == (None, None, 5, 0.5)
        assert (shown["done"], shown["upcoming"]) == ({}, [])
        assert server.status()["faults"] == {"active": 2, "done": {}}
        assert end_faults(server) == 2
        assert server.status()["faults"] == {"active": 0, "done": {}}
        assert server.fault("mute", seconds=0.05) == 3
        until(lambda: server.status()["faults"]["active"] == 0)
        assert server.end_faults() == 0


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([], "a fault is a JSON object"),
        ({}, "unknown kind None; expected one of drop, duplicate,"),
        ({"kind": ["drop"]}, "unknown kind"),
        ({"kind": "fire"}, "unknown kind 'fire'; expected one of drop,"),
        ({"kind": "drop", "venue": "mtgox"}, "venue 'mtgox' for drop; expected one of binance, kraken, coinbase,"),
        ({"kind": "snapshot_overlap", "venue": "binance"}, "expected one of kraken, coinbase"),
        ({"kind": "drop", "symbol": "LTC/USDT"}, "symbol 'LTC/USDT'; expected one of BTC/USDT, ETH/USDT"),
        ({"kind": "drop", "symbol": "BTC"}, "symbol 'BTC'"),
        ({"kind": "drop", "symbol": 7}, "symbol 7"),
        ({"kind": "outage", "symbol": "BTC/USDT"}, "outage hits a whole venue; expected no symbol"),
        ({"kind": "drop", "seconds": 0}, "seconds 0; expected a number, 0.001 to 86400"),
        ({"kind": "drop", "seconds": "5"}, "seconds '5'"),
        ({"kind": "drop", "seconds": True}, "seconds True"),
        ({"kind": "drop", "share": 0}, "share 0; expected a number"),
        ({"kind": "drop", "share": 1.5}, "share 1.5"),
        ({"kind": "drop", "delay": 1}, "drop has no 'delay'; expected of kind, venue, symbol, seconds, share"),
        ({"kind": "reorder", "delay": 99}, "delay 99; expected a number, 0.01 to 5"),
        ({"kind": "outage", "how": "politely"}, "how 'politely'; expected one of any, 503, reset"),
        ({"kind": "silent", "open_only": 1}, "open_only 1; expected true or false"),
        ({"kind": "garbage", "what": "noise"}, "what 'noise'; expected one of any, not_json,"),
    ],
)
def test_what_is_refused(message: Any, error: str) -> None:
    with pytest.raises(FaultError) as refused:
        read_fault(message, VENUES, SYMBOLS)
    assert error in str(refused.value)
    assert "\n" not in str(refused.value)


def test_refusals_over_http(tmp_path: Path) -> None:
    with running(tmp_path, venues=("binance",)) as server:
        url = f"{server.url}/admin/faults"
        for body, error in (
            (b"{", "no JSON: "),
            (b"\xff", "no JSON: "),
            (b'{"kind":"fire"}', "unknown kind 'fire'"),
            (b'{"kind":"kraken_rate_limit"}', "needs one of kraken; this simulator has binance"),
        ):
            reply = httpx.post(url, content=body, trust_env=False)
            assert reply.status_code == 400
            assert error in reply.json()["error"]
        assert server.status()["faults"]["active"] == 0
    with running(tmp_path, faults=NoFaults()) as server:
        reply = httpx.post(f"{server.url}/admin/faults", json={"kind": "drop"}, trust_env=False)
        assert (reply.status_code, reply.json()["error"][:33]) == (400, "this simulator was started with f")


def take(count: int, seed: int = 7, rate: float = 60.0, venues: tuple[str, ...] = VENUES) -> list[Planned]:
    return list(itertools.islice(plan(seed, rate, venues, SYMBOLS), count))


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert take(500) == take(500)
    assert take(500) != take(500, seed=8)
    # Other processes too: nothing in it depends on a hash.
    code = (
        "import itertools; from lakehouse.simulator.faults.schedule import *; "
        f"print([(p.at, as_lines(p.wanted)) for p in itertools.islice(plan(7, 60.0, {VENUES}, {SYMBOLS}), 50)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    assert out.strip() == str([(planned.at, as_lines(planned.wanted)) for planned in take(50)])


def test_the_schedule_has_every_kind_at_its_rate_and_only_what_can_be() -> None:
    planned = take(3000)
    assert {one.wanted.kind.name for one in planned} == {name for name, kind in KINDS.items() if kind.scheduled}
    assert "retention" not in {one.wanted.kind.name for one in planned}
    assert planned[-1].at == pytest.approx(3000, rel=0.1)
    assert [one.at for one in planned] == sorted(one.at for one in planned)
    for one in planned:
        assert 1.0 <= one.wanted.seconds <= 20.0
        assert read_fault(as_lines(one.wanted), VENUES, SYMBOLS) == one.wanted  # it could come over the admin call
    assert {one.wanted.symbol for one in planned} == {None, *SYMBOLS}
    only = take(300, venues=("binance",))
    assert {one.wanted.venue for one in only} == {"binance"}
    assert "kraken_rate_limit" not in {one.wanted.kind.name for one in only}


def test_a_scheduled_simulator(tmp_path: Path) -> None:
    with running(tmp_path, fault_seed=5, fault_rate=600.0, symbols=SYMBOLS) as server:
        expected = [as_lines(one.wanted) for one in take(20, seed=5, rate=600.0)]
        until(lambda: server.status()["faults"]["active"] >= 3)
        shown = get(f"{server.url}/admin/faults").json()
        assert len(shown["upcoming"]) == 5
        upcoming = [{key: one[key] for key in one if key != "in_seconds"} for one in shown["upcoming"]]
        place = expected.index(upcoming[0])
        assert expected[place : place + 5] == upcoming
        assert place == max(one["id"] for one in shown["active"])  # those before have begun
        assert all(one["in_seconds"] > -0.2 for one in shown["upcoming"])
        assert end_faults(server) >= 3
        assert get(f"{server.url}/admin/faults").json()["upcoming"] == []
        with pytest.raises(AssertionError):
            until(lambda: server.status()["faults"]["active"] > 0, 0.4)


@pytest.mark.parametrize(
    ("options", "first"),
    [({}, None), ({"fault_seed": 3}, (3, 6.0)), ({"fault_rate": 30.0}, (9, 30.0)), ({"fault_seed": 0}, (0, 6.0))],
)
def test_when_there_is_a_schedule(tmp_path: Path, options: dict[str, Any], first: tuple[int, float] | None) -> None:
    chosen = SimulatorOptions(record=tmp_path, seed=9, symbols=SYMBOLS, **options)
    schedule = chosen.schedule()
    assert (next(schedule) if schedule else None) == (take(1, *first)[0] if first else None)


def test_a_bad_rate(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="fault rate 1000 a minute; expected 0 to 600"):
        SimulatorOptions(record=tmp_path, fault_rate=1000)


def test_the_command_takes_a_schedule(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", "from lakehouse.cli import main; main()", "simulate", "--ready-file", str(ready)]
    command += ["--record", str(tmp_path / "record"), "--fault-seed", "5", "--fault-rate", "120", "--limits", "0"]
    command += ["--symbols", SYMBOL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            until(ready.exists, 20)
            shown = get(f"{ready.read_text()}/admin/faults").json()
            assert len(shown["upcoming"]) == 5
            attempts = get(f"{ready.read_text()}/admin/status").json()["attempts"]
            assert attempts["binance"]["made"] == 0
        finally:
            process.terminate()
            out, err = process.communicate(timeout=10)
    assert err == b""
    assert b"faults: seed 5, 120 a minute" in out
