"""Walks through Kraken's history of a running simulator, which is asked by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from lakehouse.exchanges.kraken.history import SLACK
from lakehouse.simulator.record import TrueTrade
from tests.support.history_exchange import Exchange, assert_true, paused_exchange, skipped
from tests.support.history_tools import members


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with paused_exchange(tmp_path_factory.mktemp("record")) as paused:
        yield paused


def beyond_reach(true: list[TrueTrade], page: int) -> set[int]:
    """Ids that Kraken cannot show: those of a timestamp that fills more than a page, which some bursts do."""
    at = Counter(trade.ts_event for trade in true)
    return {trade.trade_id for trade in true if at[trade.ts_event] > page}


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
    """With pages of 60 many a page ends among equal times; with pages of 5 many a time fills more than a page."""
    true = exchange.true["kraken"]
    first, last = true[0].trade_id, true[-1].trade_id
    assert not beyond_reach(true, 60)
    _, walked = exchange.walk("kraken", first, last, page=60)
    assert_true("kraken", walked.trades, true)
    ends = [trade.ts_event for trade in true]
    assert sum(ends[place] == ends[place + 1] for place in range(59, len(ends) - 1, 59)) > 10

    for page in (20, 5):
        history, walked = exchange.walk("kraken", first, last, page=page)
        lost = {trade.trade_id for trade in true} - set(walked.ids)
        assert lost <= beyond_reach(true, page)
        assert lost or page == 20
        assert set(members(history.unavailable)) == lost | set(skipped(true, first, last))
        assert history.missing == history.unavailable
