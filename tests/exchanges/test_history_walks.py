"""Walks through the REST history of a running simulator, judged by its record: all that it made, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import httpx
import pytest

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.binance.history import BinanceHistory
from lakehouse.exchanges.coinbase.history import CoinbaseHistory
from lakehouse.exchanges.history import History, Reply, Request
from lakehouse.exchanges.kraken.history import SLACK, KrakenHistory
from lakehouse.exchanges.model import Trade
from lakehouse.exchanges.registry import VENUES
from lakehouse.simulator.faults.model import NoFaults, View
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from tests.support.history_tools import Fetch, Walked, members, walk
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

LEAST_TRADES = 4000
EACH_VENUE = pytest.mark.parametrize("name", VENUES)


class Gaps(NoFaults):
    """Five ids are skipped now and then; what REST shows is set by a test."""

    active = True

    def __init__(self) -> None:
        self.calls = 0
        self.shown = View()

    def skipped_ids(self, venue: str, symbol: str) -> int:  # noqa: ARG002
        self.calls += 1
        return 5 if self.calls % 4 == 0 else 0

    def view(self, venue: str, symbol: str) -> View:  # noqa: ARG002
        return self.shown


@dataclass
class Exchange:
    """A paused simulator: its REST, its truth, its faults."""

    server: SimulatorServer
    faults: Gaps
    true: dict[str, list[TrueTrade]]
    http: httpx.Client

    def fetch(self, name: str) -> Fetch:
        return fetcher(self.server, name, self.http)

    def walk(self, name: str, first: int, last: int, page: int = 1000, **times: int | None) -> tuple[History, Walked]:
        """A walk with the times of the neighbours, as ingest would know them."""
        history = self.build(name, first, last, page, **times)
        return history, walk(history, self.fetch(name))

    def build(self, name: str, first: int, last: int, page: int, **times: int | None) -> History:
        before = [trade.ts_event for trade in self.true[name] if trade.trade_id < first]
        after = [trade.ts_event for trade in self.true[name] if trade.trade_id > last]
        ts_before = times.get("ts_before", before[-1] if before else None)
        ts_after = times.get("ts_after", after[0] if after else None)
        if page == 1000:
            return VENUES[name].history(SYMBOL, first, last, ts_before, ts_after)
        if name == "kraken":
            return KrakenHistory(SYMBOL, first, last, ts_before, ts_after, page=page)
        if name == "binance":
            return BinanceHistory(SYMBOL, "BTCUSDT", first, last, page=page)
        return CoinbaseHistory(SYMBOL, "BTC-USDT", first, last, page=page)


def fetcher(server: SimulatorServer, name: str, http: httpx.Client) -> Fetch:
    root = VENUES[name].rest_url(server.url)

    def fetch(request: Request) -> Reply:
        got = http.get(root + request.path, params=request.params, headers=request.headers)
        headers = {key.lower(): value for key, value in got.headers.items()}
        return Reply(got.status_code, headers, got.content, ts_ingest=1_800_000_000_000_000)

    return fetch


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    faults = Gaps()
    options = {"rate": 6000.0, "faults": faults, "limits": NO_LIMITS, "symbols": (SYMBOL,)}
    with (
        running(tmp_path_factory.mktemp("record"), **options) as server,
        httpx.Client(verify=False, trust_env=False) as http,
    ):
        for name in VENUES:
            with client(server, WS_PATHS[name]) as ws:
                subscribe(ws, name)
                ws.receive()
        until(lambda: all(server.record.count(name, SYMBOL) >= LEAST_TRADES for name in VENUES), 60)
        server.pause()
        yield Exchange(server, faults, {name: truth(server.record, name, SYMBOL) for name in VENUES}, http)


@pytest.fixture(autouse=True)
def _everything_is_shown(exchange: Exchange) -> None:
    exchange.faults.shown = View()


def assert_true(name: str, trades: list[Trade], true: list[TrueTrade]) -> None:
    """Trade for trade what the exchange made, to the last digit and within a millisecond."""
    venue = VENUES[name]
    true = sorted(true, key=lambda one: one.trade_id)
    trades = sorted(trades, key=lambda one: one.trade_id)
    assert [one.trade_id for one in trades] == [one.trade_id for one in true]
    for got, made in zip(trades, true, strict=True):
        assert (got.venue, got.symbol, got.native_symbol) == (name, SYMBOL, venue.native(SYMBOL))
        assert (Decimal(got.price), Decimal(got.size), got.side) == (made.price, made.size, made.side)
        assert abs(got.ts_event - made.ts_event) < 1000
        assert got.ts_ingest == 1_800_000_000_000_000
        assert got.raw[0] in "{["


def beyond_reach(true: list[TrueTrade], page: int) -> set[int]:
    """Ids that Kraken cannot show: those of a timestamp that fills more than a page, which some bursts do."""
    at = Counter(trade.ts_event for trade in true)
    return {trade.trade_id for trade in true if at[trade.ts_event] > page}


def skipped(true: list[TrueTrade], first: int, last: int) -> list[int]:
    """Ids of the range that the exchange never used."""
    used = {trade.trade_id for trade in true}
    return [one for one in range(first, last + 1) if one not in used]


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
    # Kraken's pages overlap, and it is asked for what is behind the last one.
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


@pytest.mark.parametrize("times", [{}, {"ts_before": None}, {"ts_after": None}, {"ts_before": None, "ts_after": None}])
@pytest.mark.parametrize("page", [50, 200])
def test_kraken_finds_the_beginning_from_any_time(exchange: Exchange, times: dict[str, None], page: int) -> None:
    true = exchange.true["kraken"]
    for start in (0, 1, 1000, 2500, len(true) - 30):
        first, last = true[start].trade_id, true[start + 25].trade_id
        history, walked = exchange.walk("kraken", first, last, page=page, **times)
        assert_true("kraken", walked.trades, true[start : start + 26])
        assert history.missing == history.unavailable


@pytest.mark.parametrize("off", [-(10**15), -(10**12), -60_000_000, -2_000_000, 2_000_000, 60_000_000, 10**12])
def test_kraken_finds_the_beginning_from_a_wrong_time(exchange: Exchange, off: int) -> None:
    """Early or late by seconds to decades. A time that is too late shows nothing, and looks like a lag of REST."""
    true = exchange.true["kraken"]
    first, last = true[2000].trade_id, true[2040].trade_id
    at = true[1999].ts_event + off
    history, walked = exchange.walk("kraken", first, last, page=50, ts_before=at, ts_after=None)
    if at * 1000 - SLACK < true[-1].ts_event * 1000:  # something is shown
        assert_true("kraken", walked.trades, true[2000:2041])
    else:
        assert history.newest_seen is None
        assert list(history.missing) == [(first, last)]
        assert list(history.unavailable) == []
    assert len(walked.requests) < 60


def test_kraken_pages_end_inside_a_timestamp(exchange: Exchange) -> None:
    """With pages of 100 many a page ends among equal times; with pages of 5 many a time fills more than a page."""
    true = exchange.true["kraken"]
    first, last = true[0].trade_id, true[-1].trade_id
    assert not beyond_reach(true, 100)
    _, walked = exchange.walk("kraken", first, last, page=100)
    assert_true("kraken", walked.trades, true)
    ends = [trade.ts_event for trade in true]
    assert sum(ends[place] == ends[place + 1] for place in range(99, len(ends) - 1, 99)) > 10

    for page in (20, 5):
        history, walked = exchange.walk("kraken", first, last, page=page)
        lost = {trade.trade_id for trade in true} - set(walked.ids)
        assert lost <= beyond_reach(true, page)
        assert lost or page == 20
        assert set(members(history.unavailable)) == lost | set(skipped(true, first, last))
        assert history.missing == history.unavailable


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
