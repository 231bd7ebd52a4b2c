"""Faults of frames: what a client sees of them, while the record has the truth and what follows is whole again."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.settings import VENUES
from lakehouse.simulator.faults.kinds import GARBAGE
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from tests.support.simulator_support import (
    SYMBOL,
    WS_PATHS,
    Client,
    Pool,
    begin,
    client,
    done,
    end_faults,
    running,
    subscribe,
    trades_of,
    truth,
    until,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("pool"), rate=3000.0) as pool:
        yield pool


@contextmanager
def listening(pool: Pool, venue: str) -> Iterator[tuple[SimulatorServer, Client]]:
    """A simulator of one venue with one symbol, and a client that has heard its first trades."""
    with pool.lend(venue) as server, client(server, WS_PATHS[venue]) as ws:
        subscribe(ws, venue)
        ws.until(lambda message: bool(trades_of(venue, message)))
        yield server, ws


def hear(venue: str, ws: Client, count: int) -> list[TrueTrade]:
    """Trades in the order in which they come, at least so many."""
    heard: list[TrueTrade] = []
    while len(heard) < count:
        heard += trades_of(venue, ws.receive())
    return heard


def hear_out(venue: str, server: SimulatorServer, ws: Client) -> list[TrueTrade]:
    """End all faults and hear the rest: what is made from then on must come whole and in order."""
    end_faults(server)
    newest = server.status()["markets"][0]["last_id"]
    heard = hear(venue, ws, 1)
    while heard[-1].trade_id < newest + 100:
        heard += hear(venue, ws, 1)
    server.pause()
    heard += [trade for message in ws.drain(0.1) for trade in trades_of(venue, message)]
    true = truth(server.record, venue, SYMBOL)
    assert [trade for trade in heard if trade.trade_id > newest] == [one for one in true if one.trade_id > newest]
    return heard


def in_order(trades: list[TrueTrade]) -> bool:
    return all(one.trade_id < later.trade_id for one, later in itertools.pairwise(trades))


Check = Callable[[list[TrueTrade], dict[int, TrueTrade], int], None]


def dropped(heard: list[TrueTrade], true: dict[int, TrueTrade], struck: int) -> None:
    assert in_order(heard)
    assert struck > 0
    assert len(heard) < len(true)


def duplicated(heard: list[TrueTrade], true: dict[int, TrueTrade], struck: int) -> None:
    times = Counter(trade.trade_id for trade in heard)
    assert set(times) == set(true)  # nothing is missing
    assert max(times.values()) == 2
    assert sum(times.values()) - len(times) >= struck
    assert not in_order(heard)


def reordered(heard: list[TrueTrade], true: dict[int, TrueTrade], struck: int) -> None:
    assert struck > 0
    assert sorted(trade.trade_id for trade in heard) == sorted(true)  # each once
    assert not in_order(heard)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    ("kind", "share", "check"),
    [
        ("drop", 0.3, dropped),
        ("duplicate", 0.5, duplicated),
        ("reorder", 0.2, reordered),
        ("newest_first", 1.0, reordered),
    ],
)
def test_lost_doubled_and_disordered_frames(pool: Pool, venue: str, kind: str, share: float, check: Check) -> None:
    with listening(pool, venue) as (server, ws):
        number = begin(server, kind, venue=venue, symbol="btc-usdt", share=share, seconds=60)
        heard = hear(venue, ws, 400)
        assert number > 0
        heard += hear_out(venue, server, ws)
        true = {trade.trade_id: trade for trade in truth(server.record, venue, SYMBOL)}
        assert all(trade == true[trade.trade_id] for trade in heard)  # nothing is changed
        expected = {i: trade for i, trade in true.items() if i >= min(trade.trade_id for trade in heard)}
        check(heard, expected, done(server, kind))


@pytest.mark.parametrize("venue", VENUES)
def test_a_conflict_follows_the_true_trade(pool: Pool, venue: str) -> None:
    with listening(pool, venue) as (server, ws):
        begin(server, "conflict", share=0.3, seconds=60)
        heard = hear(venue, ws, 300) + hear_out(venue, server, ws)
        true = {trade.trade_id: trade for trade in truth(server.record, venue, SYMBOL)}
        seen: set[int] = set()
        conflicts = 0
        for trade in heard:
            if trade.trade_id in seen:
                conflicts += 1
                assert trade.price != true[trade.trade_id].price
                assert trade.price > 0
                assert trade._replace(price=Decimal(0)) == true[trade.trade_id]._replace(price=Decimal(0))
            else:
                assert trade == true[trade.trade_id]
            seen.add(trade.trade_id)
        assert conflicts == done(server, "conflict") > 0
        assert len(seen) == max(seen) - min(seen) + 1


def badness(venue: str, text: str) -> str | None:
    """Which garbage a frame is; None for a good one."""
    try:
        message = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except ValueError:
        return "not_json"
    if not isinstance(message, dict):
        return "not_an_object"
    trade = message["data"][0] if venue == "kraken" and message["channel"] == "trade" else message
    names = {"binance": ("p", "q", "T"), "kraken": ("price", "qty", "timestamp")}
    price, size, time = names.get(venue, ("price", "size", "time"))
    if time not in trade:
        return None
    if price not in trade:
        return "missing_field"
    if trade[price] == {}:
        return "wrong_type"
    if Decimal(trade[size]).as_tuple().exponent == -19:
        return "nineteen_decimals"
    if Decimal(trade[size]) < 0:
        return "negative_size"
    return "year_2099" if str(trade[time]).startswith(("2099", "4083955200000000")) else None


@pytest.mark.parametrize("venue", VENUES)
def test_garbage_comes_beside_the_true_frames(pool: Pool, venue: str) -> None:
    with listening(pool, venue) as (server, ws):
        begin(server, "garbage", share=0.5, seconds=60)
        bad: Counter[str] = Counter()
        good: list[TrueTrade] = []
        while min(bad[what] for what in GARBAGE) < 5:
            text = ws.raw()
            what = badness(venue, text)
            if what:
                bad[what] += 1
            else:
                good += trades_of(venue, json.loads(text, parse_float=Decimal))
        true = {trade.trade_id: trade for trade in truth(server.record, venue, SYMBOL)}
        assert [true[trade.trade_id] for trade in good] == good
        assert len(good) == good[-1].trade_id - good[0].trade_id + 1  # all of them
        assert set(bad) == set(GARBAGE)
        assert done(server, "garbage") >= bad.total()


@pytest.mark.parametrize("venue", ["kraken", "coinbase"])
def test_snapshots_overlap_with_live_trades(pool: Pool, venue: str) -> None:
    with listening(pool, venue) as (server, first):
        hear(venue, first, 100)
        begin(server, "snapshot_overlap", venue=venue, seconds=60)
        with client(server, WS_PATHS[venue]) as ws:
            subscribe(ws, venue, snapshot=True)
            kinds: list[str] = []
            heard: list[TrueTrade] = []
            live: set[int] = set()
            late = overlapping = 0
            while not late or overlapping < 50:
                message = ws.receive()
                trades = trades_of(venue, message)
                heard += trades
                if trades and message["type"] in ("snapshot", "last_match"):
                    kinds.append(message["type"])
                    overlapping += sum(trade.trade_id in live for trade in trades)
                    late += bool(live) and trades[0].trade_id < min(live)
                else:
                    live |= {trade.trade_id for trade in trades}
            assert set(kinds) == {"snapshot" if venue == "kraken" else "last_match"}
            heard += hear_out(venue, server, ws)
        true = {trade.trade_id: trade for trade in truth(server.record, venue, SYMBOL)}
        assert all(trade == true[trade.trade_id] for trade in heard)
        assert {trade.trade_id for trade in heard} >= {i for i in true if i >= min(live)}


def test_a_fault_ends_by_itself_and_what_it_held_back_comes_at_once(pool: Pool) -> None:
    with listening(pool, "binance") as (server, ws):
        begin(server, "reorder", seconds=0.3, delay=5.0)
        until(lambda: server.status()["faults"]["active"] == 0)
        newest = server.status()["markets"][0]["last_id"]
        heard = hear("binance", ws, 1)
        while heard[-1].trade_id < newest + 100:
            heard += hear("binance", ws, 1)
        ids = sorted(trade.trade_id for trade in heard)
        assert ids == list(range(ids[0], newest + 101))
        assert done(server, "reorder") > 0


def test_newest_first_also_inside_a_frame_of_kraken(pool: Pool) -> None:
    with listening(pool, "kraken") as (server, ws):
        begin(server, "newest_first", seconds=60)
        newest = server.status()["markets"][0]["last_id"]

        def is_many(message: Any) -> bool:
            """Return whether it is of the fault's time: a busy machine may still have to read what was sent before."""
            trades = trades_of("kraken", message)
            return len(trades) > 2 and min(trade.trade_id for trade in trades) > newest

        many = ws.until(is_many, 20)
        ids = [trade.trade_id for trade in trades_of("kraken", many)]
        assert ids == sorted(ids, reverse=True)
        hear_out("kraken", server, ws)


def test_a_fault_of_another_symbol_or_venue_hurts_nobody_else(tmp_path: Path) -> None:
    options = {"venues": ("binance", "kraken"), "symbols": (SYMBOL, "ETH/USDT"), "rate": 2000.0}
    with running(tmp_path, **options) as server, client(server, WS_PATHS["binance"]) as ws:
        begin(server, "drop", venue="kraken", seconds=60)
        begin(server, "drop", symbol="ETH/USDT", seconds=60)
        heard = hear("binance", ws, 300)
        assert in_order(heard)
        assert heard[-1].trade_id - heard[0].trade_id == len(heard) - 1
        assert done(server, "drop") == 0
