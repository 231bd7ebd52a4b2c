"""Binance spot: envelopes, control messages, names, subscription limits."""

from __future__ import annotations

import json

import pytest

from lakehouse.errors import SettingError
from lakehouse.exchanges.model import Refused, Rejected, Shutdown, Subscribed, Trade
from lakehouse.exchanges.registry import venue
from tests.support.exchange_samples import BINANCE, BINANCE_RAW, READERS, TS_INGEST

binance = READERS["binance"]


def test_the_documented_frame_in_milliseconds() -> None:
    frame = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001",'
        b'"q":"100","T":1672515782136,"m":true,"M":true}}'
    )
    (trade,) = binance.parse(frame, TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.ts_event == 1672515782136000
    assert trade.side == "sell"
    assert trade.raw == frame.decode().removeprefix('{"stream":"btcusdt@trade","data":').removesuffix("}")


@pytest.mark.parametrize(("maker", "taker"), [("true", "sell"), ("false", "buy")])
def test_taker_side(maker: str, taker: str) -> None:
    (trade,) = binance.parse(BINANCE.frame(side=maker), TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.side == taker


@pytest.mark.parametrize("old", ['"b":88,"a":50,', '"M":false,', ""])
def test_old_and_ignored_fields(old: str) -> None:
    (trade,) = binance.parse(BINANCE_RAW.frame().replace(b"{", b"{" + old.encode(), 1), TS_INGEST)
    assert isinstance(trade, Trade)


@pytest.mark.parametrize(
    "time",
    ["0", "-1", "1672515782", "1230940799999", "1672515782136123456", "4102444800000", "4102444800000000", "9" * 400],
)
def test_time_out_of_range(time: str) -> None:
    (rejected,) = binance.parse(BINANCE.frame(time=time), TS_INGEST)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "bad_time"


@pytest.mark.parametrize(("time", "micros"), [("4102444799999", 4102444799999000), ("4102444799999999",) * 2])
def test_both_units_up_to_the_end_of_2099(time: str, micros: int | str) -> None:
    (trade,) = binance.parse(BINANCE.frame(time=time), TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.ts_event == int(micros)


@pytest.mark.parametrize(
    "frame",
    [
        '{"e":"aggTrade","E":1,"s":"BNBBTC","a":5,"p":"0.1","q":"1","f":1,"l":2,"T":1672515782136,"m":true}',
        '{"stream":"bnbbtc@aggTrade","data":{"e":"aggTrade","a":5}}',
        '{"stream":"omgbusd@bookTicker","data":{"u":1,"s":"OMGBUSD","b":"13.7","B":"30","a":"13.7","A":"31"}}',
        '{"u":1,"s":"OMGBUSD","b":"13.7","B":"30","a":"13.7","A":"31"}',
        '{"e":"depthUpdate","s":"OMGBUSD","U":1,"u":2,"b":[],"a":[]}',
        '{"stream":"btcusdt@depth5","data":{"lastUpdateId":160,"bids":[],"asks":[]}}',
        '{"lastUpdateId":160,"bids":[],"asks":[]}',
        '{"stream":"btcusdt@kline_1m","data":{"e":"kline","k":{"t":1}}}',
        '{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}',
    ],
)
def test_other_streams_are_ignored(frame: str) -> None:
    assert binance.parse(frame.encode(), TS_INGEST) == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ('{"stream":"bnbbtc@trade","data":{"e":"aggTrade","a":5}}', "unknown_frame"),
        ('{"stream":"bnbbtc@trade","data":[]}', "unknown_frame"),
        ('{"stream":"bnbbtc@trade","data":{"s":"BNBBTC"}}', "missing_field"),
        ('{"stream":"bnbbtc@trade","data":{"e":5}}', "wrong_type"),
        ('{"stream":"bnbbtc@trade","data":null}', "unknown_frame"),
        ('{"hello":1}', "unknown_frame"),
        ("{}", "unknown_frame"),
    ],
)
def test_neither_a_trade_nor_to_be_ignored(frame: str, reason: str) -> None:
    (rejected,) = binance.parse(frame.encode(), TS_INGEST)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_control_messages() -> None:
    assert binance.parse(b'{"result":null,"id":1}', TS_INGEST) == [Subscribed(request=1)]
    assert binance.parse(b'{"e":"serverShutdown","E":1672515782136}', TS_INGEST) == [Shutdown()]
    assert binance.parse(b'{"stream":"x","data":{"e":"serverShutdown","E":1}}', TS_INGEST) == [Shutdown()]
    words = "Invalid request: no such method (code 2)"
    unnumbered = [Refused(words, is_whole=True)]
    assert binance.parse(b'{"code":2,"msg":"Invalid request: no such method"}', TS_INGEST) == unnumbered
    refused = [Refused(words, is_whole=True, request=1)]
    nested = b'{"error":{"code":2,"msg":"Invalid request: no such method"},"id":1}'
    assert binance.parse(nested, TS_INGEST) == refused
    assert binance.parse(b'{"result":null,' + nested[1:], TS_INGEST) == refused


def test_a_name_is_that_of_a_subscribed_symbol_or_unknown() -> None:
    """Never split by a guess: BNBUSD may be BNB/USD or BN/BUSD, and even BTCUSDT might be of an asset TCUSDT."""
    known = venue("binance", ["BN/BUSD", "ABC/NEWCOIN", "币安人生/USDT"])
    assert known.canonical("BNBUSD") == "BN/BUSD"
    assert known.canonical("ABCNEWCOIN") == "ABC/NEWCOIN"
    assert known.canonical("币安人生USDT") == "币安人生/USDT"
    (trade,) = known.parse(BINANCE.frame(symbol='"ABCNEWCOIN"'), TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.symbol == "ABC/NEWCOIN"
    for name in ("BTCUSDT", "bnbusd"):
        (rejected,) = known.parse(BINANCE.frame(symbol=f'"{name}"'), TS_INGEST)
        assert isinstance(rejected, Rejected)
        assert (rejected.reason, rejected.symbol) == ("unknown_symbol", None)
        assert rejected.detail == f"found symbol '{name}'; expected the name of one symbol that is subscribed"
    assert not any(isinstance(one, Trade) for one in venue("binance").parse(BINANCE.frame(), TS_INGEST))


def test_two_symbols_of_one_name() -> None:
    with pytest.raises(SettingError, match="binance writes BNB/USD and BN/BUSD alike, BNBUSD; expected one of the two"):
        venue("binance", ["BNB/USD", "BTC/USDT", "BN/BUSD"])
    reader = binance.for_symbols(["BNB/USD", "BN/BUSD"])
    with pytest.raises(ValueError, match="'BNBUSD', which may be BNB/USD or BN/BUSD; expected the name of one symbol"):
        reader.canonical("BNBUSD")


def test_subscribe_within_the_limits() -> None:
    symbols = [f"A{number}/USDT" for number in range(1024)]
    messages = [json.loads(message) for message in binance.subscribe(symbols)]
    assert [message["id"] for message in messages] == [1, 2, 3, 4, 5, 6]
    assert all(message["method"] == "SUBSCRIBE" for message in messages)
    assert max(len(message["params"]) for message in messages) == 200
    assert [stream for message in messages for stream in message["params"]] == [f"a{n}usdt@trade" for n in range(1024)]
    assert binance.subscribe_pause_seconds >= 0.2  # 5 messages a second
    assert len(binance.websocket_url(None, symbols)) < 8004
    with pytest.raises(SettingError, match="1025 Binance symbols on one connection; expected 1024 at most"):
        binance.subscribe([*symbols, "BTC/USDT"])


def test_urls() -> None:
    assert binance.websocket_url(None, ["BTC/USDT", "ETH/USDT"]) == (
        "wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND"
    )
    assert binance.websocket_url(None, ["币安人生/USDT"]).isascii()
    assert binance.subscribe(["BTC/USDT"]) == [b'{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}']
