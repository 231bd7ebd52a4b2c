"""Faults of REST and of trade ids."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from lakehouse.settings import VENUES
from tests.support.rest_calls import ask, ids, traded
from tests.support.simulator_support import (
    NO_LIMITS,
    SYMBOL,
    WS_PATHS,
    Pool,
    begin,
    client,
    done,
    end_faults,
    subscribe,
    trades_of,
    truth,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("pool"), rate=2000.0, limits=NO_LIMITS) as pool:
        yield pool


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
    """Pages are as long as ever, and go on after the rows that are left out."""
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
