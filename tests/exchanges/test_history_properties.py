"""Any history is walked to its end: all that the venue has comes, once; nothing hostile makes a walk fail or run on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.binance.history import BinanceHistory
from lakehouse.exchanges.coinbase.history import MOST_SHORT_PAGES, CoinbaseHistory
from lakehouse.exchanges.history import History, Reply, Request
from lakehouse.exchanges.kraken.history import SPARE_PAGES, KrakenHistory
from lakehouse.exchanges.model import Rejected, Trade
from tests.support.history_tools import MODELS, SYMBOL, TS, WRITERS, KrakenModel, json_reply, kraken_body, members, walk

EACH_VENUE = pytest.mark.parametrize("venue", MODELS)

#: Ids with skipped ones among them, times with many equal ones, from microseconds to days apart.
gaps = st.sampled_from([1, 1, 1, 1, 1, 2, 5, 40])
pauses = st.sampled_from([0, 0, 0, 0, 1, 1, 999, 50_000, 3_000_000, 7_200_000_000, 200_000_000_000])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int]]:
    steps = draw(st.lists(st.tuples(gaps, pauses), max_size=80))
    trade_id, micros = draw(st.integers(1, 50)), TS
    trades = []
    for gap, pause in steps:
        trade_id += gap
        micros += pause
        trades.append((trade_id, micros))
    return trades


def most_requests(venue: str, count: int, page: int) -> int:
    pages = -(-count // page)
    return {
        "binance": pages + 1,
        # Short pages, the probe, and the page that is asked for again after it.
        "coinbase": pages + MOST_SHORT_PAGES + 2,
        # The search, its steps back, and twice the pages.
        "kraken": 2 * pages + SPARE_PAGES + 4 + 90,
    }[venue]


@EACH_VENUE
@settings(max_examples=400, deadline=None)
@given(data=st.data(), trades=histories(), page=st.integers(1, 9))
def test_every_trade_of_the_range_comes_once(
    venue: str, data: st.DataObject, trades: list[tuple[int, int]], page: int
) -> None:
    first = data.draw(st.integers(0, 140))
    last = data.draw(st.integers(first, 160))
    bad = frozenset(data.draw(st.lists(st.sampled_from([one for one, _ in trades] or [-1]), max_size=3)))
    model = MODELS[venue](trades, page, bad)
    if isinstance(model, KrakenModel):
        history = model.history(first, last, data.draw(st.booleans()), data.draw(st.booleans()))
    else:
        history = model.history(first, last)
    walked = walk(history, model)

    there = {trade_id for trade_id, _ in trades if first <= trade_id <= last}
    delivered, unavailable, missing = set(walked.ids), set(members(history.unavailable)), set(members(history.missing))
    hidden = too_many_at_once(trades, page) if venue == "kraken" else set()
    assert there - bad - hidden <= delivered <= there - bad
    assert delivered | missing == set(range(first, last + 1))
    assert not delivered & missing
    newest, newest_seen = model.newest(), -1 if history.newest_seen is None else history.newest_seen
    assert newest_seen <= newest
    # Ids that REST has passed are settled; the others are left open.
    assert unavailable == {one for one in missing if one <= newest_seen}
    if newest > last and not hidden:
        assert unavailable == missing
    assert {value.reason for value in walked.rejected} <= {"not_positive"}
    shown_bad = [bad_id(value) for value in walked.rejected]
    assert sorted(shown_bad) == sorted(set(shown_bad) & there & bad)
    assert set(shown_bad) >= (there & bad) - hidden
    assert len(walked.requests) <= most_requests(venue, last - first + 1, page)


@EACH_VENUE
@settings(max_examples=400, deadline=None)
@given(data=st.data(), trades=histories(), page=st.integers(2, 9))
def test_a_history_that_grows_while_it_is_walked_is_never_called_unavailable(
    venue: str, data: st.DataObject, trades: list[tuple[int, int]], page: int
) -> None:
    first = data.draw(st.integers(0, 140))
    last = data.draw(st.integers(first, 160))
    whole = MODELS[venue](trades, page)
    history = whole.history(first, last)
    shown = data.draw(st.integers(0, len(trades)))
    growth = data.draw(st.lists(st.integers(0, 30), max_size=6))

    def fetch(request: Request) -> Reply:
        nonlocal shown
        reply = MODELS[venue](trades[:shown], page)(request)
        shown += growth.pop() if growth else 0
        return reply

    walk(history, fetch)
    hidden = too_many_at_once(trades, page) if venue == "kraken" else set()
    assert not {one for one, _ in trades if one in history.unavailable} - hidden
    newest_seen = -1 if history.newest_seen is None else history.newest_seen
    missing = members(history.missing)
    assert members(history.unavailable) == [one for one in missing if one <= newest_seen]


def bad_id(value: Rejected) -> int:
    row = json.loads(value.raw)
    return int(row[6]) if isinstance(row, list) else int(row.get("id", row.get("trade_id")))


def too_many_at_once(trades: list[tuple[int, int]], page: int) -> set[int]:
    """Ids that Kraken cannot show: a timestamp that has as many trades as a page, or more, beyond its first page."""
    at: dict[int, list[int]] = {}
    for trade_id, micros in trades:
        at.setdefault(micros, []).append(trade_id)
    return {one for ids in at.values() if len(ids) > page for one in ids}


#: Rows and bodies from a venue that has gone mad.
ids = st.integers(-5, 130) | st.sampled_from([2**63 - 1, 2**63, 10**30])
times = st.integers(TS - 50, TS + 50) | st.integers(0, 2**62)
odd = st.sampled_from(
    ["null", "5", '"x"', "[]", "{}", "[[]]", '{"id":7}', '["1","1",1,"b","l","",7]', '{"trade_id":7}']
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
statuses = st.sampled_from([200] * 12 + [204, 301, 400, 403, 404, 408, 418, 429, 451, 500, 502, 503, 520, 0, 999])
headers = st.dictionaries(
    st.sampled_from(["retry-after", "x"]), st.sampled_from(["7", "1e9", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "٣", ""])
)


@st.composite
def hostile_replies(draw: st.DrawFn, venue: str) -> Reply:
    rows = draw(st.lists(st.builds(WRITERS[venue], ids, times) | odd, max_size=12))
    if draw(st.booleans()) and rows:
        rows *= draw(st.integers(1, 4))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        body = draw(st.binary(max_size=30))
    elif kind == 1:
        body = json.dumps(draw(json_values)).encode()
    elif kind == 2:
        error = draw(st.sampled_from(["EAPI:Rate limit exceeded", "EService:Busy", "WWhat", "?", 7]))
        body = json.dumps({"error": [error], "code": -1003, "message": "no", "result": {"a": [], "last": "1"}}).encode()
    elif venue == "kraken":
        last = draw(times.map(lambda micros: str(micros * 1000)) | st.sampled_from(["", "x", "-1", "9" * 40]))
        body = kraken_body(rows, last).encode()
    else:
        body = f"[{','.join(rows)}]".encode()
    if draw(st.integers(0, 9)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return Reply(draw(statuses), draw(headers), body, TS)


def build(venue: str, first: int, last: int, page: int, before: int | None, after: int | None) -> History:
    if venue == "binance":
        return BinanceHistory(SYMBOL, "BTCUSDT", first, last, page=page)
    if venue == "coinbase":
        return CoinbaseHistory(SYMBOL, "BTC-USDT", first, last, page=page)
    return KrakenHistory(SYMBOL, first, last, before, after, page=page)


@EACH_VENUE
@settings(max_examples=250, deadline=None)
@given(data=st.data(), page=st.integers(1, 6))
def test_no_reply_breaks_a_walk_or_keeps_it_going(venue: str, data: st.DataObject, page: int) -> None:
    first = data.draw(st.integers(0, 100))
    last = data.draw(st.integers(first, 120))
    micros = st.none() | st.integers(-(2**70), 2**70) | st.integers(TS - 50, TS + 50)
    history = build(venue, first, last, page, data.draw(micros), data.draw(micros))
    #: A few mad replies, told again and again until the walk has ended.
    replies = data.draw(st.lists(hostile_replies(venue), min_size=1, max_size=6))
    delivered: list[int] = []
    refusals: list[VenueError | TerminalError] = []
    accepted = 0
    asked = refused = 0
    # Once every reply has been refused in a row, nothing will change any more.
    while (request := history.request()) is not None and refused < len(replies):
        assert request.weight > 0
        assert accepted <= most_requests(venue, last - first + 1, page)
        asked += 1
        try:
            page_of_it = history.take(replies[asked % len(replies)])
        except (VenueError, TerminalError) as error:
            refused += 1
            refusals.append(error)
            assert history.request() == request
        else:
            refused = 0
            accepted += 1
            delivered += [trade.trade_id for trade in page_of_it.trades]
    waits = [error.retry_after for error in refusals if isinstance(error, VenueError)]
    assert all(wait is None or 0 <= wait <= 10**9 for wait in waits)
    assert accepted <= most_requests(venue, last - first + 1, page)
    assert len(set(delivered)) == len(delivered)
    assert all(first <= one <= last for one in delivered)
    assert sorted(delivered + members(history.missing)) == list(range(first, last + 1))
    assert set(members(history.unavailable)) <= set(members(history.missing))


@EACH_VENUE
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_one_value_for_each_row(venue: str, data: st.DataObject) -> None:
    """Whatever a row is, it is one trade or one rejected record; neighbours do not suffer from it."""
    rows = data.draw(st.lists(json_values.map(json.dumps) | odd, max_size=5))
    good = [WRITERS[venue](one, TS + one) for one in (7, 8)]
    rows = [good[0], *rows, good[1]]
    body = kraken_body(rows, (TS + 8) * 1000) if venue == "kraken" else f"[{','.join(rows)}]"
    page = build(venue, 0, 1_000_000, 1000, TS, None).take(json_reply(body))
    assert [trade.raw for trade in page.trades] == good
    assert [value.raw for value in page.rejected] == rows[1:-1]
    assert all(isinstance(trade, Trade) for trade in page.trades)
