"""Answers of a venue that gives no trades; the newest id; budgets and ranges."""

from __future__ import annotations

import json

import pytest

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.history import Budget, Reply, Request, Walk
from lakehouse.exchanges.kraken.history import KrakenHistory
from lakehouse.exchanges.registry import VENUES
from tests.support.history_tools import SYMBOL, TS, WRITERS, json_reply, kraken_body, kraken_row, members, rows_of

EACH_VENUE = pytest.mark.parametrize("name", VENUES)


# Errors


def kraken_error(*errors: str) -> str:
    return json.dumps({"error": errors})


LIMIT, SECONDS = "limits our REST requests", "7"
ERRORS: list[tuple[str, Reply, type[Exception], str, float | None]] = [
    (
        "binance",
        json_reply({"code": -1003, "msg": "Too many requests"}, 429, retry_after="7"),
        VenueError,
        "Too many",
        7,
    ),
    ("binance", json_reply({"code": -1003, "msg": "banned until"}, 418, retry_after="120"), VenueError, "banned", 120),
    ("binance", json_reply("<html>WAF</html>", 403), VenueError, LIMIT, None),
    ("binance", json_reply("", 429, retry_after="soon"), VenueError, LIMIT, None),
    ("binance", json_reply({"code": -1121, "msg": "Invalid symbol."}, 400), TerminalError, "knows no symbol", None),
    ("binance", json_reply({"code": -1100, "msg": "Illegal characters"}, 400), TerminalError, "refused a REST", None),
    ("binance", json_reply({"code": -1007, "msg": "Timeout"}, 408), VenueError, "Timeout", None),
    ("binance", json_reply({"code": -1001, "msg": "Disconnected"}, 400), VenueError, "Disconnected", None),
    ("binance", json_reply({"code": -1000, "msg": "Unknown"}, 200), VenueError, "Unknown", None),
    ("binance", json_reply("Eligibility", 451), VenueError, LIMIT, None),
    ("binance", json_reply("Bad gateway", 502), VenueError, "HTTP 502 Bad gateway", None),
    ("binance", json_reply({"a": 1}), VenueError, "expected an array", None),
    ("binance", json_reply("[{"), VenueError, "expected an array", None),
    ("binance", json_reply(b'["\xff"]'), VenueError, "byte 2", None),
    ("binance", json_reply(b"\xff", 503), VenueError, "HTTP 503", None),
    ("kraken", json_reply(kraken_error("EAPI:Rate limit exceeded")), VenueError, LIMIT, 5),
    ("kraken", json_reply(kraken_error("EGeneral:Too many requests")), VenueError, LIMIT, 5),
    ("kraken", json_reply(kraken_error("EGeneral:Temporary lockout")), VenueError, "locked us out", 900),
    ("kraken", json_reply(kraken_error("EService:Unavailable")), VenueError, "EService:Unavailable", None),
    ("kraken", json_reply(kraken_error("EService:Busy"), 520), VenueError, "EService:Busy", None),
    ("kraken", json_reply(kraken_error("EGeneral:Internal error")), VenueError, "Internal error", None),
    ("kraken", json_reply(kraken_error("EWhatever:New")), VenueError, "EWhatever:New", None),
    ("kraken", json_reply(kraken_error("EQuery:Unknown asset pair")), TerminalError, "knows no symbol", None),
    ("kraken", json_reply(kraken_error("EGeneral:Invalid arguments")), TerminalError, "refused a REST", None),
    ("kraken", json_reply({"error": "no list"}), VenueError, "a list of errors", None),
    ("kraken", json_reply({"error": [], "result": {"last": "1"}}), VenueError, "one pair and last", None),
    ("kraken", json_reply({"error": [], "result": {"a": [], "b": []}}), VenueError, "one pair and last", None),
    ("kraken", json_reply({"error": [], "result": {"a": {}}}), VenueError, "an array of trades", None),
    ("kraken", json_reply({"error": []}), VenueError, "one pair and last", None),
    ("kraken", json_reply("[]"), VenueError, "an object", None),
    ("kraken", json_reply("rate limited", 429, retry_after="3"), VenueError, LIMIT, 3),
    ("kraken", json_reply("", 504), VenueError, "HTTP 504 (nothing)", None),
    ("coinbase", json_reply({"message": "NotFound"}, 404), TerminalError, "knows no symbol", None),
    ("coinbase", json_reply({"message": "Public rate limit exceeded"}, 429), VenueError, LIMIT, None),
    ("coinbase", json_reply({"message": "slow"}, 429, retry_after="1.5"), VenueError, LIMIT, 1.5),
    ("coinbase", json_reply({"message": "Internal"}, 500), VenueError, "HTTP 500", None),
    ("coinbase", json_reply({"message": "Bad Request"}, 400), TerminalError, "Bad Request", None),
    ("coinbase", json_reply({"message": "odd"}), VenueError, "an array of trades", None),
    ("coinbase", json_reply("[" * 100_000), VenueError, "an array of trades", None),
    ("coinbase", json_reply("", 200), VenueError, "an array of trades", None),
    ("coinbase", json_reply("", 302), VenueError, "HTTP 302", None),
]


@pytest.mark.parametrize(
    ("name", "reply", "kind", "message", "wait"), ERRORS, ids=[f"{one[0]}-{one[1].status}-{one[3]}" for one in ERRORS]
)
def test_errors(name: str, reply: Reply, kind: type[Exception], message: str, wait: float | None) -> None:
    history = VENUES[name].history(SYMBOL, 5, 8, TS, None)
    before = history.request()
    with pytest.raises(kind) as raised:
        history.take(reply)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert getattr(raised.value, "retry_after", None) == wait
    assert history.request() == before
    assert members(history.missing) == [5, 6, 7, 8]
    with pytest.raises(kind):
        VENUES[name].newest_id(reply)


def test_kraken_warnings_are_no_errors() -> None:
    body = kraken_body([kraken_row(5)], TS).replace('"error":[]', '"error":["WGeneral:Danger"]')
    assert len(KrakenHistory(SYMBOL, 5, 5, TS).take(json_reply(body)).trades) == 1


# The newest id, budgets, ranges


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        (
            "binance",
            Request("/api/v3/trades", {"symbol": "BTCUSDT", "limit": "1"}, {"X-MBX-TIME-UNIT": "MICROSECOND"}, 25.0),
        ),
        ("kraken", Request("/0/public/Trades", {"pair": "XBTUSDT"}, {}, 1.0)),
        ("coinbase", Request("/products/BTC-USDT/trades", {"limit": "1"}, {}, 1.0)),
    ],
)
def test_newest(name: str, request_: Request) -> None:
    venue = VENUES[name]
    assert venue.newest(SYMBOL) == request_
    write = WRITERS[name]
    assert venue.newest_id(rows_of(name, [write(one) for one in (7, 9, 8)])) == 9
    assert venue.newest_id(rows_of(name, [])) is None
    # The id counts although the price cannot be read.
    assert venue.newest_id(rows_of(name, [write(9).replace("4.0000", "-4.0000")])) == 9
    with pytest.raises(VenueError, match="expected a row with a trade id"):
        venue.newest_id(rows_of(name, ["null"]))


def test_budgets() -> None:
    assert {name: venue.rest_budget for name, venue in VENUES.items()} == {
        "binance": Budget(6000.0, 60.0),
        "kraken": Budget(1.0, 1.0),
        "coinbase": Budget(10.0, 1.0),
    }


@EACH_VENUE
@pytest.mark.parametrize(("first", "last"), [(5, 4), (-1, 4)])
def test_bad_ranges(name: str, first: int, last: int) -> None:
    with pytest.raises(ValueError, match="id range"):
        VENUES[name].history(SYMBOL, first, last, None, None)


def test_what_a_walk_hands_out_cannot_change_it() -> None:
    found = Walk(1, 5)
    found.missing.remove(1, 5)
    found.unavailable.add(1, 5)
    assert members(found.missing) == [1, 2, 3, 4, 5]
    assert not found.unavailable
