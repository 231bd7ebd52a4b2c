"""Kraken's walk by time with replies made for each rule: where it begins, how pages go on, what cannot be asked for."""

from __future__ import annotations

import pytest

from lakehouse.exchanges.history import Request
from lakehouse.exchanges.kraken.history import SLACK, KrakenHistory
from lakehouse.exchanges.kraken.id_search import SECOND, SHORTEST_SPAN, Search
from lakehouse.exchanges.registry import VENUES
from tests.support.history_tools import (
    SYMBOL,
    TS,
    KrakenModel,
    asked,
    json_reply,
    kraken_body,
    kraken_row,
    members,
    walk,
)


def test_kraken_asks_by_time_with_its_own_names() -> None:
    request = asked(VENUES["kraken"].history("DOGE/BTC", 7, 9, TS, TS + 5_000_000))
    since = str(TS * 1000 - SLACK)
    assert request == Request("/0/public/Trades", {"pair": "XDGXBT", "since": since, "count": "1000"}, {}, 1.0)
    assert asked(KrakenHistory(SYMBOL, 7, 9, None, TS)).params["since"] == str(TS * 1000 - SECOND)
    # The meaning of count without since is not documented.
    assert asked(KrakenHistory(SYMBOL, 7, 9)).params == {"pair": "XBTUSDT"}


@pytest.mark.parametrize("key", ["XBTUSDT", "XXBTZUSD", "anything"])
def test_kraken_answers_under_any_key(key: str) -> None:
    history = KrakenHistory(SYMBOL, 7, 8, TS)
    rows = [kraken_row(one, TS + one) for one in (6, 7, 8)]
    page = history.take(json_reply(kraken_body(rows, (TS + 8) * 1000, key)))
    assert [trade.trade_id for trade in page.trades] == [7, 8]
    assert history.request() is None


def test_kraken_a_page_ends_inside_a_timestamp() -> None:
    """The next is asked for from just before `last`; what it repeats is not delivered again."""
    history = KrakenHistory(SYMBOL, 1, 6, TS, page=3)
    rows = {one: kraken_row(one, TS + (one >= 2) + (one >= 5)) for one in range(7)}
    history.take(json_reply(kraken_body([rows[0], rows[1], rows[2]], (TS + 1) * 1000 + 700)))
    assert asked(history).params["since"] == str((TS + 1) * 1000 + 699)
    page = history.take(json_reply(kraken_body([rows[2], rows[3], rows[4]], (TS + 1) * 1000 + 700)))
    assert [trade.trade_id for trade in page.trades] == [3, 4]
    # The page has one timestamp alone: after it, then; what else it had cannot be asked for.
    assert asked(history).params["since"] == str((TS + 1) * 1000 + 700)
    page = history.take(json_reply(kraken_body([rows[6]], (TS + 2) * 1000 + 700)))
    assert [trade.trade_id for trade in page.trades] == [6]
    assert members(history.unavailable) == members(history.missing) == [5]
    assert history.request() is None


def test_kraken_a_page_that_does_not_go_on_is_asked_for_from_earlier() -> None:
    history = KrakenHistory(SYMBOL, 1, 9, TS, page=3)
    history.take(json_reply(kraken_body([kraken_row(one, TS + one) for one in (0, 1, 2)], (TS + 2) * 1000)))
    since = int(asked(history).params["since"])
    torn = json_reply(kraken_body([kraken_row(one, TS + one) for one in (7, 8, 9)], (TS + 9) * 1000))
    steps = []
    for _ in range(3):
        history.take(torn)
        steps.append(since - int(asked(history).params["since"]))
        assert not history.unavailable
        since = int(asked(history).params["since"])
    assert steps == [1_000, 1_000_000, SECOND]
    # It contradicts itself: 3 to 6 are left to be asked for later, not called unavailable.
    history.take(torn)
    assert history.request() is None
    assert members(history.missing) == [3, 4, 5, 6]
    assert not history.unavailable


def test_kraken_steps_back_by_growing_steps_until_the_history_begins() -> None:
    history = KrakenHistory(SYMBOL, 5, 6, TS)
    page = json_reply(kraken_body([kraken_row(6, TS)], TS * 1000))
    start = TS * 1000 - SLACK
    back = []
    while (since := int(asked(history).params["since"])) > 0:
        back.append((start - since) // SECOND)
        history.take(page)
    assert back[:5] == [0, 1, 9, 73, 585]
    assert len(back) < 13
    assert not history.unavailable
    history.take(page)  # since=0: the history begins with 6
    assert history.request() is None
    assert members(history.unavailable) == [5]


def test_kraken_searches_a_far_start_instead_of_walking_there() -> None:
    """A hundred thousand trades lie between the known time and the range; pages of 1,000 would take a hundred."""
    model = KrakenModel([(one, TS + one * 30_000) for one in range(1, 200_000)], page=1000)
    for before, after in ((TS, None), (None, TS + 200_000 * 30_000), (TS, TS + 200_000 * 30_000), (None, None)):
        history = KrakenHistory(SYMBOL, 100_000, 100_500, before, after)
        walked = walk(history, model)
        assert len(walked.ids) == 501
        assert not history.missing
        assert len(walked.requests) <= 25


@pytest.mark.parametrize("wanted", [0, 1, 5, 10**9, TS * 1000, TS * 1000 + 7, 4 * 10**18])
@pytest.mark.parametrize("start", [0, TS * 1000, 4_102_444_800 * SECOND])
def test_search_finds_any_time_from_anywhere(wanted: int, start: int) -> None:
    search = Search(start, 4_102_444_800 * SECOND)
    probes = 0
    while not search.ended and not wanted - SHORTEST_SPAN <= search.at <= wanted:
        probes += 1
        if search.at > wanted:
            search.too_late()
        else:
            search.too_early(search.at + 1)
    assert probes <= 90
    assert wanted - SHORTEST_SPAN <= search.at <= wanted
