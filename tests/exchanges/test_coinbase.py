"""Coinbase Exchange: the maker's side is flipped, control messages, other channels."""

from __future__ import annotations

import json

import pytest

from lakehouse.exchanges.coinbase.stream import Coinbase
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Rejected, Subscribed, Trade
from tests.support.exchange_samples import COINBASE, TS_INGEST

coinbase = Coinbase()


def parse(text: str) -> list[Parsed]:
    return coinbase.parse(text.encode(), TS_INGEST)


@pytest.mark.parametrize(("maker", "taker"), [("sell", "buy"), ("buy", "sell")])
def test_the_makers_side_is_flipped(maker: str, taker: str) -> None:
    (trade,) = coinbase.parse(COINBASE.frame(side=f'"{maker}"'), TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.side == taker
    assert json.loads(trade.raw)["side"] == maker


@pytest.mark.parametrize(("kind", "source"), [("match", "live"), ("last_match", "snapshot")])
def test_source(kind: str, source: str) -> None:
    (trade,) = coinbase.parse(COINBASE.frame(kind=f'"{kind}"'), TS_INGEST)
    assert isinstance(trade, Trade)
    assert trade.source == source


def test_heartbeat_names_the_newest_trade() -> None:
    text = '{"type":"heartbeat","sequence":90,"last_trade_id":%s,"product_id":"BTC-USD","time":"2014-11-07T08:19:28Z"}'
    assert parse(text % "20") == [Heartbeat(symbol="BTC/USD", last_trade_id=20)]
    assert parse(text % "0") == [Heartbeat(symbol="BTC/USD", last_trade_id=None)]


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"heartbeat","last_trade_id":20}',
        '{"type":"heartbeat","last_trade_id":-1,"product_id":"BTC-USD"}',
        '{"type":"heartbeat","last_trade_id":1,"product_id":"BTCUSD"}',
        '{"type":"subscriptions","channels":5}',
    ],
)
def test_unreadable_control_messages(frame: str) -> None:
    (rejected,) = parse(frame)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.raw) == ("wrong_type", frame)


def test_subscriptions() -> None:
    text = (
        '{"type":"subscriptions","channels":[{"name":"heartbeat","product_ids":["BTC-USD"]},'
        '{"name":"matches","product_ids":["BTC-USD","ETH-USDT"]}]}'
    )
    assert parse(text) == [Subscribed(symbols=("BTC/USD", "ETH/USDT"))]
    assert parse('{"type":"subscriptions","channels":[{"name":"level2","product_ids":["BTC-USD"]}]}') == []
    assert parse('{"type":"subscriptions","channels":[]}') == []


@pytest.mark.parametrize(
    ("fields", "message", "symbol"),
    [
        ('"message":"Failed to subscribe","reason":"BTC-X is not a valid product"', None, "BTC/X"),
        ('"message":"Failed to subscribe","reason":"X is not a valid product"', None, None),
        ('"message":"slow reader"', "slow reader", None),
        ('"reason":7', "no message", None),
    ],
)
def test_errors(fields: str, message: str | None, symbol: str | None) -> None:
    (refused,) = parse(f'{{"type":"error",{fields}}}')
    assert isinstance(refused, Refused)
    assert refused.symbol == symbol
    if message is not None:
        assert refused.message == message
    else:
        assert refused.message.startswith("Failed to subscribe: ")


@pytest.mark.parametrize("kind", ["l2update", "ticker", "snapshot", "status", "received", "open", "done", "new_one"])
def test_other_channels_are_ignored(kind: str) -> None:
    assert parse(COINBASE.payload(kind=f'"{kind}"')) == []


@pytest.mark.parametrize(("kind", "reason"), [(None, "missing_field"), ("5", "wrong_type"), ("null", "wrong_type")])
def test_a_message_without_a_type(kind: str | None, reason: str) -> None:
    (rejected,) = parse(COINBASE.payload(kind=kind))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_subscribe() -> None:
    (message,) = coinbase.subscribe(["BTC/USD", "ETH/USDT"])
    assert json.loads(message) == {
        "type": "subscribe",
        "product_ids": ["BTC-USD", "ETH-USDT"],
        "channels": ["matches", "heartbeat"],
    }
