"""Walks through the REST history of a running simulator, judged by its record: all that it made, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.registry import VENUES
from lakehouse.simulator.faults.model import View
from tests.support.history_exchange import Exchange, assert_true, fetcher, paused_exchange, skipped
from tests.support.history_tools import members, walk
from tests.support.simulator_support import (
    NO_LIMITS,
    SYMBOL,
    WS_PATHS,
    begin,
    client,
    end_faults,
    running,
    subscribe,
    truth,
    until,
)

EACH_VENUE = pytest.mark.parametrize("name", VENUES)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with paused_exchange(tmp_path_factory.mktemp("record")) as paused:
        yield paused


@pytest.fixture(autouse=True)
def _everything_is_shown(exchange: Exchange) -> None:
    exchange.faults.shown = View()


@EACH_VENUE
def test_the_whole_history(exchange: Exchange, name: str) -> None:
    true = exchange.true[name]
    first, last = true[0].trade_id, true[-1].trade_id
    history, walked = exchange.walk(name, first, last)
    assert_true(name, walked.trades, true)
    assert len(skipped(true, first, last)) > 20
    assert members(history.missing) == members(history.unavailable) == skipped(true, first, last)
    assert history.newest_seen == last
    pages = -(-(last - first + 1) // 1000)
    # Kraken's pages overlap, and it is asked for what comes after the last one.
    assert len(walked.requests) <= pages + 2


@EACH_VENUE
@pytest.mark.parametrize("page", [1000, 100, 50])
def test_ranges_in_the_middle(exchange: Exchange, name: str, page: int) -> None:
    true = exchange.true[name]
    for start, count in ((1, 1), (700, 1), (701, 30), (1500, 333), (2100, 1100), (len(true) - 40, 39)):
        first, last = true[start].trade_id, true[start + count - 1].trade_id
        history, walked = exchange.walk(name, first, last, page=page)
        assert_true(name, walked.trades, true[start : start + count])
        assert members(history.missing) == members(history.unavailable) == skipped(true, first, last)
        assert history.newest_seen is not None
        assert history.newest_seen >= last


@EACH_VENUE
def test_only_skipped_ids(exchange: Exchange, name: str) -> None:
    true = exchange.true[name]
    before, after = next((one, two) for one, two in pairwise(true[500:]) if two.trade_id > one.trade_id + 5)
    first, last = before.trade_id + 1, after.trade_id - 1
    history, walked = exchange.walk(name, first, last)
    assert walked.trades == []
    assert list(history.unavailable) == list(history.missing) == [(first, last)]
    assert len(walked.requests) <= 3


@EACH_VENUE
def test_a_range_before_all_history(exchange: Exchange, name: str) -> None:
    first = exchange.true[name][0].trade_id
    history, walked = exchange.walk(name, first - 30, first + 4)
    assert walked.ids == [trade.trade_id for trade in exchange.true[name] if trade.trade_id <= first + 4]
    assert (first - 30, first - 1) in list(history.unavailable)
    assert history.missing == history.unavailable


@EACH_VENUE
def test_ids_that_the_venue_no_longer_has(exchange: Exchange, name: str) -> None:
    true = exchange.true[name]
    exchange.faults.shown = View(newest=1500)
    kept = true[-1500:]
    first, last = true[-1800].trade_id, true[-1200].trade_id
    history, walked = exchange.walk(name, first, last)
    assert_true(name, walked.trades, [trade for trade in kept if trade.trade_id <= last])
    assert history.missing == history.unavailable
    assert history.unavailable.covers(first, kept[0].trade_id - 1)


@EACH_VENUE
def test_rest_lags_behind_the_socket(exchange: Exchange, name: str) -> None:
    true = exchange.true[name]
    first, last = true[-300].trade_id, true[-1].trade_id
    exchange.faults.shown = View(lag_ids=100)
    shown = true[-101]
    history, walked = exchange.walk(name, first, last)
    assert_true(name, walked.trades, true[-300:-100])
    assert history.newest_seen == shown.trade_id
    assert history.missing.covers(shown.trade_id + 1, last)
    assert members(history.unavailable) == skipped(true, first, shown.trade_id)

    # Ask later for what is left: REST has caught up.
    exchange.faults.shown = View()
    history, walked = exchange.walk(name, shown.trade_id + 1, last)
    assert_true(name, walked.trades, true[-100:])
    assert members(history.missing) == members(history.unavailable) == skipped(true, shown.trade_id + 1, last)


@EACH_VENUE
def test_nothing_of_the_range_is_there_yet(exchange: Exchange, name: str) -> None:
    true = exchange.true[name]
    first, last = true[-50].trade_id, true[-1].trade_id
    exchange.faults.shown = View(lag_ids=100)
    history, walked = exchange.walk(name, first, last)
    assert walked.trades == []
    assert list(history.missing) == [(first, last)]
    assert list(history.unavailable) == []
    assert history.newest_seen is None or history.newest_seen < first
    assert len(walked.requests) <= 3


@EACH_VENUE
def test_beyond_the_newest(exchange: Exchange, name: str) -> None:
    last = exchange.true[name][-1].trade_id
    history, walked = exchange.walk(name, last - 3, last + 500)
    assert history.missing.covers(last + 1, last + 500)
    assert last + 1 not in history.unavailable
    assert history.newest_seen == last
    assert len(walked.requests) <= 3


@EACH_VENUE
def test_the_newest_id(exchange: Exchange, name: str) -> None:
    venue = VENUES[name]
    assert venue.newest_id(exchange.fetch(name)(venue.newest(SYMBOL))) == exchange.true[name][-1].trade_id


@EACH_VENUE
def test_unknown_symbols(exchange: Exchange, name: str) -> None:
    venue, fetch = VENUES[name], exchange.fetch(name)
    history = venue.history("NO/PE", 1, 2, None, None)
    request = history.request()
    assert request is not None
    with pytest.raises(TerminalError, match=f"{name} knows no symbol NO/PE"):
        history.take(fetch(request))
    with pytest.raises(TerminalError, match=f"{name} knows no symbol"):
        venue.newest_id(fetch(venue.newest("NO/PE")))


LIMITS = [
    ("binance", "rest_429", 429),
    ("binance", "rest_418", 418),
    ("coinbase", "rest_429", 429),
    ("kraken", "kraken_rate_limit", 200),
    ("binance", "rest_error", None),
    ("kraken", "rest_error", None),
    ("coinbase", "rest_error", None),
]


@pytest.mark.parametrize(("name", "kind", "status"), LIMITS)
def test_a_refused_walk_goes_on_where_it_was(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: str, status: int | None
) -> None:
    record = tmp_path_factory.mktemp("record")
    with (
        running(record, rate=2000.0, limits=NO_LIMITS, symbols=(SYMBOL,), venues=(name,)) as server,
        httpx.Client(verify=False, trust_env=False) as http,
    ):
        with client(server, WS_PATHS[name]) as ws:
            subscribe(ws, name)
            ws.receive()
            until(lambda: server.record.count(name, SYMBOL) >= 1500, 30)
        server.pause()
        true = truth(server.record, name, SYMBOL)
        fetch = fetcher(server, name, http)
        history = VENUES[name].history(SYMBOL, true[1].trade_id, true[-1].trade_id, true[0].ts_event, true[-1].ts_event)
        request = history.request()
        assert request is not None
        trades = list(history.take(fetch(request)).trades)
        missing = history.missing
        request = history.request()
        assert request is not None
        begin(server, kind, venue=name, symbol=None, seconds=60, share=1.0)
        reply = fetch(request)
        assert status is None or reply.status == status
        with pytest.raises(VenueError) as raised:
            history.take(reply)
        if kind != "rest_error":
            assert raised.value.retry_after is not None
            assert raised.value.retry_after > 0
        assert history.request() == request
        assert history.missing == missing
        end_faults(server)
        trades += walk(history, fetch).trades
        assert_true(name, trades, true[1:])
        assert not history.missing
