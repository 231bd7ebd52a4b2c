"""Words of venues that do not subscribe a symbol, on the socket and over REST: which of them are final."""

from __future__ import annotations

import json

import pytest

from lakehouse.errors import TerminalError, VenueError
from lakehouse.exchanges.history import Reply, UnknownSymbolError
from lakehouse.exchanges.model import Parsed, Refused, Subscribed
from lakehouse.exchanges.registry import venue as find_venue


def parse(venue: str, frame: str) -> list[Parsed]:
    return find_venue(venue).parse(frame.encode(), 0)


def coinbase(reason: str) -> list[Parsed]:
    return parse("coinbase", json.dumps({"type": "error", "message": "Failed to subscribe", "reason": reason}))


@pytest.mark.parametrize(
    ("reason", "symbols", "is_final"),
    [
        ("LOOM-USDC is delisted", ["LOOM/USDC"], True),
        ("FOO-USD is not a valid product", ["FOO/USD"], True),
        ("'FOO-USD' is delisted", ["FOO/USD"], True),
        ("FOO-USD, BAR-EUR are not valid products", ["FOO/USD", "BAR/EUR"], True),
        ("X is not a valid product", [None], True),
        ("BTC-USD is temporarily unavailable", ["BTC/USD"], False),
        ("BTC-USD is in cancel-only mode", ["BTC/USD"], False),  # of the words with a dash one is a product
        ("MATIC-USD is delisted, please use POL-USD", ["MATIC/USD"], True),
        ("MATIC-USD is delisted; POL-USD replaces it.", ["MATIC/USD"], True),
        ("Please use POL-USD, MATIC-USD is delisted", ["MATIC/USD"], True),
        ("Please use POL-USD. 'MATIC-USD' is delisted.", ["MATIC/USD"], True),
        ("use POL-USD as MATIC-USD is delisted", ["MATIC/USD"], True),
        ("MATIC-USD (now POL-USD) is delisted", ["MATIC/USD"], True),
        ("product (FOO-USD) is not a valid product", ["FOO/USD"], True),
        ("LOOM-USDC and FOO-USD are delisted, use BAR-USD or BTC-USD", ["LOOM/USDC", "FOO/USD"], True),
        ("Use BTC-USD instead: A-USD, B-USD, and C-USD are delisted", ["A/USD", "B/USD", "C/USD"], True),
        ("A-USD is delisted and B-USD is not a valid product, use C-USD", ["A/USD", "B/USD"], True),
        ("The product is delisted, please use POL-USD", [None], True),
        # The words may be about another symbol, so nothing is refused for good.
        ("use POL-USD, A-USD and B-USD are delisted", ["POL/USD", "A/USD", "B/USD"], False),
        ("MATIC-USD, replaced by POL-USD, is delisted", ["MATIC/USD", "POL/USD"], False),
        ("POL-USD replaces MATIC-USD, which is delisted", ["POL/USD", "MATIC/USD"], False),
        ("rate limit exceeded", [None], False),
        ("delisted", [None], False),
        ("", [None], False),
    ],
)
def test_coinbase_refuses_all_for_what_it_names(reason: str, symbols: list[str | None], is_final: bool) -> None:
    refused = coinbase(reason)
    assert all(isinstance(one, Refused) for one in refused)
    assert [one.symbol for one in refused if isinstance(one, Refused)] == symbols
    assert all((one.is_final, one.is_whole) == (is_final, True) for one in refused if isinstance(one, Refused))


def test_the_quoted_line_of_coinbase() -> None:
    line = '{"type":"error","message":"Failed to subscribe","reason":"LOOM-USDC is delisted"}'
    message = "Failed to subscribe: LOOM-USDC is delisted"
    assert parse("coinbase", line) == [Refused(message, "LOOM/USDC", is_final=True, is_whole=True)]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (
            '{"error":"Exceeded msg rate","method":"subscribe","req_id":1,"success":false}',
            Refused("Exceeded msg rate", request=1),
        ),
        ('{"Error":"Exceeded msg rate"}', Refused("Exceeded msg rate")),
        ('{"error":"Exceeded msg rate"}', Refused("Exceeded msg rate")),
        (
            '{"error":"Currency pair not supported FOO/USD","method":"subscribe","req_id":7,"success":false}',
            Refused("Currency pair not supported FOO/USD", "FOO/USD", is_final=True, request=7),
        ),
        (
            '{"error":"Currency pair not supported FOO/USD, BAR/USD","method":"subscribe","success":false}',
            Refused("Currency pair not supported FOO/USD, BAR/USD", "FOO/USD", is_final=True),
        ),
        (
            '{"error":"Currency pair not supported","method":"subscribe","success":false}',
            Refused("Currency pair not supported", is_final=True),
        ),
        (
            '{"error":"EService:Unavailable","method":"subscribe","success":false,"symbol":"BTC/USD"}',
            Refused("EService:Unavailable", "BTC/USD"),
        ),
        (
            '{"method":"subscribe","success":false,"symbol":"BTC/USD","req_id":3}',
            Refused("subscription refused without a reason", "BTC/USD", request=3),
        ),
        (
            '{"error":"x","method":"subscribe","success":false,"req_id":99999999999999999999}',
            Refused("x"),
        ),
    ],
)
def test_kraken(line: str, refused: Refused) -> None:
    assert parse("kraken", line) == [refused]


@pytest.mark.parametrize("words", ["Already subscribed", "already subscribed", "ALREADY SUBSCRIBED to trade"])
@pytest.mark.parametrize("name", ["error", "Error"])
def test_already_subscribed_is_an_acknowledgement(name: str, words: str) -> None:
    named = {name: words, "method": "subscribe", "success": False, "symbol": "BTC/USD", "req_id": 2}
    assert parse("kraken", json.dumps(named)) == [Subscribed(("BTC/USD",), request=2, is_one=True)]
    assert parse("kraken", json.dumps({name: words})) == [Subscribed(is_one=True)]


def test_binance_numbers_its_replies() -> None:
    nested = '{"error":{"code":2,"msg":"Invalid request: too many"},"id":4}'
    assert parse("binance", nested) == [Refused("Invalid request: too many (code 2)", is_whole=True, request=4)]
    assert parse("binance", '{"result":null,"id":12}') == [Subscribed(request=12)]
    assert parse("binance", '{"result":null,"id":"a"}') == [Subscribed()]


def test_requests_are_numbered() -> None:
    for name, key in (("kraken", "req_id"), ("binance", "id")):
        (message,) = find_venue(name).subscribe(["BTC/USDT"], 5)
        assert json.loads(message)[key] == 5
    symbols = [f"A{number}/USDT" for number in range(450)]
    numbers = [json.loads(message)["id"] for message in find_venue("binance").subscribe(symbols, 3)]
    assert numbers == [3, 4, 5]


@pytest.mark.parametrize(
    ("venue", "status", "body", "words"),
    [
        ("binance", 400, '{"code":-1121,"msg":"Invalid symbol."}', "Invalid symbol. (code -1121)"),
        (
            "binance",
            400,
            '{"code":-1100,"msg":"Illegal characters found in parameter \'symbol\'; legal range is \'^[A-Z]+$\'."}',
            "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z]+$'. (code -1100)",
        ),
        (
            "binance",
            400,
            '{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}',
            "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed. (code -1102)",
        ),
        (
            "binance",
            400,
            '{"code":-1105,"msg":"Parameter \'symbol\' was empty."}',
            "Parameter 'symbol' was empty. (code -1105)",
        ),
        (
            "binance",
            400,
            '{"code":-1130,"msg":"Data sent for parameter \'symbol\' is not valid."}',
            "Data sent for parameter 'symbol' is not valid. (code -1130)",
        ),
        ("coinbase", 404, '{"message":"NotFound"}', '{"message":"NotFound"}'),
        ("kraken", 200, '{"error":["EQuery:Unknown asset pair"]}', "EQuery:Unknown asset pair"),
        ("kraken", 200, '{"error":["EQuery:Invalid asset pair"]}', "EQuery:Invalid asset pair"),
    ],
)
def test_rest_that_lists_no_such_symbol(venue: str, status: int, body: str, words: str) -> None:
    with pytest.raises(UnknownSymbolError) as refused:
        find_venue(venue).newest_id(Reply(status, {}, body.encode(), 0))
    assert refused.value.words == words
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("venue", "status", "body"),
    [
        ("binance", 400, '{"code":-1100,"msg":"Illegal characters found in parameter \'limit\'."}'),
        ("binance", 400, '{"code":-1102,"msg":"Mandatory parameter \'limit\' was not sent."}'),
        ("binance", 400, '{"code":-1130,"msg":"Data sent for parameter \'fromId\' is not valid."}'),
        ("binance", 429, '{"code":-1003,"msg":"Too much request weight used."}'),
        ("coinbase", 400, '{"message":"Bad Request"}'),
        ("kraken", 200, '{"error":["EService:Unavailable"]}'),
        ("kraken", 200, '{"error":["EGeneral:Invalid arguments"]}'),
    ],
)
def test_other_errors_of_rest_refuse_no_symbol(venue: str, status: int, body: str) -> None:
    with pytest.raises((VenueError, TerminalError)) as refused:
        find_venue(venue).newest_id(Reply(status, {}, body.encode(), 0))
    assert not isinstance(refused.value, UnknownSymbolError)
