"""Faults of REST and of trade ids, and the venues' limits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.limits import FORGIVEN_CALLS, Bucket, Gate, Limit, Limits, Window
from lakehouse.simulator.server import SimulatorServer
from lakehouse.simulator.venues.registry import VENUES as VENUE_TABLE
from tests.support.simulator_support import (
    NO_LIMITS,
    SYMBOL,
    WS_PATHS,
    Pool,
    begin,
    client,
    done,
    end_faults,
    get,
    subscribe,
    trades_of,
    truth,
)

REST = {
    "binance": "/binance/api/v3/historicalTrades?symbol=BTCUSDT",
    "kraken": "/kraken/0/public/Trades?pair=XBTUSDT",
    "coinbase": "/coinbase/products/BTC-USDT/trades?",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("pool"), rate=2000.0, limits=NO_LIMITS) as pool:
        yield pool


@contextmanager
def traded(pool: Pool, venue: str, count: int = 300) -> Iterator[SimulatorServer]:
    """A simulator of one venue whose market has made some trades; it trades on."""
    with pool.lend(venue) as server, client(server, WS_PATHS[venue]) as ws:
        subscribe(ws, venue)
        heard = 0
        while heard < count:
            heard += len(trades_of(venue, ws.receive()))
        yield server


def ask(server: SimulatorServer, venue: str, more: str = "") -> httpx.Response:
    return get(f"{server.url}{REST[venue]}{more}")


def ids(venue: str, reply: httpx.Response) -> list[int]:
    """Ids of a page, ascending."""
    assert reply.status_code == 200
    page = reply.json()
    if venue == "kraken":
        assert page["error"] == []
        return [row[6] for row in page["result"]["XBTUSDT"]]
    return sorted(row["id" if venue == "binance" else "trade_id"] for row in page)


@pytest.mark.parametrize("venue", VENUES)
def test_rest_lags_behind(pool: Pool, venue: str) -> None:
    with traded(pool, venue) as server:
        server.pause()
        true = truth(server.record, venue, SYMBOL)
        assert ids(venue, ask(server, venue))[-1] == true[-1].trade_id
        begin(server, "rest_lag", lag=0, ids=17, symbol=SYMBOL, seconds=60)
        assert ids(venue, ask(server, venue))[-1] == true[-18].trade_id
        end_faults(server)
        begin(server, "rest_lag", lag=time.time() - true[-1].ts_event / 1e6 + 0.4, seconds=60)
        assert true[-1].trade_id not in ids(venue, ask(server, venue))
        time.sleep(0.45)  # the newest trade is now as old as REST lags
        assert ids(venue, ask(server, venue))[-1] == true[-1].trade_id
        assert done(server, "rest_lag") == 3
        end_faults(server)
        assert ids(venue, ask(server, venue))[-1] == true[-1].trade_id


@pytest.mark.parametrize("venue", VENUES)
def test_retention(pool: Pool, venue: str) -> None:
    with traded(pool, venue) as server:
        server.pause()
        true = truth(server.record, venue, SYMBOL)
        first, oldest = true[0], true[-50]
        begin(server, "retention", trades=50, seconds=60)
        if venue == "binance":  # silently from the first that there is
            assert ids(venue, ask(server, venue, f"&fromId={first.trade_id}&limit=7"))[0] == oldest.trade_id
        elif venue == "kraken":
            assert ids(venue, ask(server, venue, f"&since={first.ts_event * 1000}"))[0] == oldest.trade_id
        else:
            assert ids(venue, ask(server, venue, f"after={oldest.trade_id}")) == []
            assert ids(venue, ask(server, venue, f"after={oldest.trade_id + 5}"))[0] == oldest.trade_id
        assert ids(venue, ask(server, venue)) == [trade.trade_id for trade in true[-50:]]
        end_faults(server)
        assert len(ids(venue, ask(server, venue))) == min(500 if venue == "binance" else 1000, len(true))


@pytest.mark.parametrize("venue", VENUES)
def test_rows_that_come_late(pool: Pool, venue: str) -> None:
    """Pages are as long as ever, and go on behind the rows that are left out."""
    with traded(pool, venue) as server:
        server.pause()
        true = truth(server.record, venue, SYMBOL)
        begin(server, "rest_late_rows", delay=3600, every=3, seconds=60)
        shown = [trade.trade_id for trade in true if trade.trade_id % 3]
        newest = ids(venue, ask(server, venue))
        assert newest == shown[-len(newest) :]
        assert len(newest) == min(500 if venue == "binance" else 1000, len(shown))
        first = true[6]
        if venue == "binance":
            page = ids(venue, ask(server, venue, f"&fromId={first.trade_id}&limit=5"))
            assert page == [trade_id for trade_id in shown if trade_id >= first.trade_id][:5]
        elif venue == "kraken":
            page = ids(venue, ask(server, venue, f"&since={first.ts_event * 1000}&count=5"))
            assert page == [one.trade_id for one in true if one.ts_event > first.ts_event and one.trade_id % 3][:5]
        else:
            last = true[-7].trade_id
            page = ids(venue, ask(server, venue, f"after={last}&limit=5"))
            assert page == [trade_id for trade_id in shown if trade_id < last][-5:]
        end_faults(server)
        # Those are there that are older than the delay, and the younger ones when it has passed.
        begin(server, "rest_late_rows", delay=time.time() - true[-40].ts_event / 1e6 + 0.5, every=2, seconds=60)
        found = ids(venue, ask(server, venue))
        assert [one for one in found if one % 2 == 0 and one < true[-41].trade_id]
        assert not [one for one in found if one % 2 == 0 and one > true[-39].trade_id]
        end_faults(server)
        assert ids(venue, ask(server, venue))[-50:] == [trade.trade_id for trade in true[-50:]]


@pytest.mark.parametrize(
    ("venue", "kind", "status", "body"),
    [
        ("binance", "rest_429", 429, '"code":-1003'),
        ("kraken", "rest_429", 429, "EAPI:Rate limit exceeded"),
        ("coinbase", "rest_429", 429, "rate limit"),
        ("binance", "rest_418", 418, '"code":-1003'),
        ("kraken", "kraken_rate_limit", 200, '{"error":["EAPI:Rate limit exceeded"]}'),
    ],
)
def test_refusals(pool: Pool, venue: str, kind: str, status: int, body: str) -> None:
    with traded(pool, venue, 1) as server:
        begin(server, kind, seconds=30)
        reply = ask(server, venue)
        assert reply.status_code == status
        assert body in reply.text
        assert reply.headers.get("retry-after") == (None if status == 200 else "30")
        if status != 200:
            end_faults(server)
            begin(server, kind, retry_after=2, seconds=30)
            assert ask(server, venue).headers["retry-after"] == "2"
        end_faults(server)
        assert ids(venue, ask(server, venue))
        assert done(server, kind) == (1 if status == 200 else 2)


@pytest.mark.parametrize("venue", VENUES)
def test_errors_of_the_venue(pool: Pool, venue: str) -> None:
    with traded(pool, venue, 1) as server:
        begin(server, "rest_error", seconds=60)
        replies = [ask(server, venue) for _ in range(30)]
        found = {reply.status_code for reply in replies}
        assert found == ({200, 502} if venue == "kraken" else {500, 502})
        for reply in replies:
            if reply.status_code == 200:
                assert reply.json()["error"][0].startswith(("EService:", "EGeneral:"))
            elif reply.status_code == 502:
                assert reply.headers["content-type"] == "text/html"
        end_faults(server)
        assert ids(venue, ask(server, venue))


def test_a_share_of_slow_replies(pool: Pool) -> None:
    with traded(pool, "binance", 1) as server:
        begin(server, "rest_slow", delay=0.15, share=0.5, seconds=60)
        took = []
        for _ in range(12):
            began = time.monotonic()
            assert ids("binance", ask(server, "binance"))
            took.append(time.monotonic() - began)
        assert 0 < done(server, "rest_slow") < 12
        assert sum(one >= 0.15 for one in took) >= done(server, "rest_slow")


@pytest.mark.parametrize("venue", VENUES)
def test_id_gaps_are_nowhere(pool: Pool, venue: str) -> None:
    with traded(pool, venue, 50) as server, client(server, WS_PATHS[venue]) as ws:
        begin(server, "id_holes", ids=4, every=0.05, seconds=60)
        subscribe(ws, venue)
        heard: list[int] = []
        while not heard or heard[-1] - heard[0] + 1 < len(heard) + 12:
            heard += [trade.trade_id for trade in trades_of(venue, ws.receive())]
        end_faults(server)
        server.pause()
        true = [trade.trade_id for trade in truth(server.record, venue, SYMBOL)]
        steps = {later - one for one, later in itertools.pairwise(true)}
        assert steps == {1, 5}
        assert true[-1] - true[0] + 1 - len(true) == 4 * done(server, "id_holes")
        shown = ids(venue, ask(server, venue))
        assert shown == true[-len(shown) :]
        assert [one for one in true if heard[0] <= one <= heard[-1]] == heard


def test_a_window_and_a_bucket() -> None:
    window = Window(Limit(100, 60.0))
    assert [window.take(25, float(second)) for second in range(4)] == [0.0] * 4
    assert window.take(25, 10.0) == 50.0  # the first of them leaves at 60
    assert window.take(50, 10.0) == 51.0
    assert window.take(25, 60.0) == 0.0
    assert window.take(25, 60.5) == 0.5
    assert window.peak == 1.0
    bucket = Bucket(Limit(3, 3.0, sliding=False))
    assert [bucket.take(1, 0.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(1, 0.5) == 0.5
    assert bucket.take(1, 1.0) == 0.0
    steady = Bucket(Limit(3, 3.0, sliding=False))
    assert all(steady.take(1, 100 + second) == 0.0 for second in range(100))
    assert steady.peak == pytest.approx(1 / 3)


def test_going_on_within_the_penalty_is_banned() -> None:
    gate = Gate(Limit(1, 10.0, ban=120.0))
    assert gate.take(1, 0.0) == (0.0, False)
    assert [gate.take(1, 1.0) for _ in range(FORGIVEN_CALLS + 1)] == [(9.0, False)] * (FORGIVEN_CALLS + 1)
    assert gate.take(1, 2.0) == (120.0, True)
    assert gate.take(1, 62.0) == (60.0, True)  # also when the budget would have room
    assert gate.take(1, 122.0) == (0.0, False)
    assert (gate.calls, gate.limited, gate.banned, gate.weight) == (15, 12, 1, 2)


@pytest.mark.parametrize(("venue", "admitted"), [("binance", 240), ("kraken", 3), ("coinbase", 15)])
def test_the_limits_of_the_venues(tmp_path: Path, venue: str, admitted: int) -> None:
    # A tenth for Binance, so that the test is short; the figures themselves are looked at below.
    defaults = Limits()
    limits = defaults.times(0.1) if venue == "binance" else defaults
    with Pool(tmp_path, limits=limits) as own, traded(own, venue, 1) as server:
        calls, reply = 0, ask(server, venue, "&limit=1")
        while reply.status_code == 200 and "Rate limit" not in reply.text:
            calls += 1
            assert calls <= 3 * admitted
            reply = ask(server, venue, "&limit=1")
        status = server.status()["rest"][venue]
        assert status["limited"] == 1
        assert status["banned"] == 0
        assert status["peak_share"] == pytest.approx(1.0, abs=0.3)
        if venue == "binance":
            assert calls == admitted / 10
            assert reply.status_code == 429
            assert 50 <= int(reply.headers["retry-after"]) <= 60
            assert status["weight"] == 600
            for _ in range(FORGIVEN_CALLS):
                assert ask(server, venue).status_code == 429
            reply = ask(server, venue)
            assert (reply.status_code, reply.headers["retry-after"]) == (418, "120")
            assert ask(server, venue).status_code == 418
            assert server.status()["rest"][venue]["banned"] == 1
        elif venue == "kraken":
            assert reply.json() == {"error": ["EAPI:Rate limit exceeded"]}
        else:
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert calls >= admitted / (10 if venue == "binance" else 1)
        # The market's pace is nobody's budget.
        count = server.record.count(venue, SYMBOL)
        time.sleep(0.2)
        assert server.record.count(venue, SYMBOL) > count
        if venue != "binance":
            limit = VENUE_TABLE[venue].profile.limits.rest
            assert limit
            time.sleep(limit.seconds / limit.amount)
            assert ids(venue, ask(server, venue))


def test_the_published_figures() -> None:
    own = {venue: one.profile.limits for venue, one in VENUE_TABLE.items()}
    rest = {venue: one.rest for venue, one in own.items() if one.rest}
    assert {venue: (one.amount, one.seconds) for venue, one in rest.items()} == {
        "binance": (6000, 60.0),
        "kraken": (3, 3.0),
        "coinbase": (15, 1.5),
    }
    attempts = {venue: one.attempts for venue, one in own.items() if one.attempts}
    assert {venue: (one.amount, one.seconds) for venue, one in attempts.items()} == {
        "binance": (300, 300.0),
        "kraken": (150, 600.0),
    }
    limits = Limits()
    assert limits.in_force(rest, limits.rest) == rest
    assert limits.times(2).in_force(rest, None)["binance"].amount == 12_000
    assert limits.times(0).in_force(rest, None) == {}
    assert limits.in_force(rest, {"kraken": Limit(1, 1.0)}) == {"kraken": Limit(1, 1.0)}
    with pytest.raises(SettingError, match="limits times -1; expected 0"):
        limits.times(-1)
