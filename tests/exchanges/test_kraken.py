"""Kraken: batches, snapshots, control messages of v2, and the frozen v1."""

from __future__ import annotations

import json

import pytest

from lakehouse.exchanges.kraken.stream import Kraken
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Rejected, Subscribed, Trade
from tests.support.exchange_samples import KRAKEN, TS_INGEST

kraken = Kraken()


def parse(text: str) -> list[Parsed]:
    return kraken.parse(text.encode(), TS_INGEST)


def frame_of(*payloads: str, kind: str = '"type":"update",') -> str:
    return f'{{"channel":"trade",{kind}"data":[{",".join(payloads)}]}}'


def test_one_bad_trade_does_not_spoil_the_others() -> None:
    payloads = [KRAKEN.payload(trade_id=str(number)) for number in range(5)]
    payloads[1] = KRAKEN.payload(price="-1")
    payloads[3] = "null"
    parsed = parse(frame_of(*payloads))
    assert [type(value) for value in parsed] == [Trade, Rejected, Trade, Rejected, Trade]
    assert [value.trade_id for value in parsed if isinstance(value, Trade)] == [0, 2, 4]
    bad = [value for value in parsed if isinstance(value, Rejected)]
    assert [(value.reason, value.raw) for value in bad] == [
        ("not_positive", payloads[1]),
        ("unknown_frame", "null"),
    ]


def test_snapshot() -> None:
    parsed = parse(frame_of(*[KRAKEN.payload(trade_id=str(n)) for n in range(50)], kind='"type":"snapshot",'))
    assert [(value.source, value.trade_id) for value in parsed if isinstance(value, Trade)] == [
        ("snapshot", number) for number in range(50)
    ]


@pytest.mark.parametrize(
    ("kind", "reason"), [("", "missing_field"), ('"type":5,', "wrong_type"), ('"type":"x",', "unknown_frame")]
)
def test_trades_of_a_frame_without_a_usable_type_are_rejected_one_by_one(kind: str, reason: str) -> None:
    payloads = [KRAKEN.payload(trade_id=str(number)) for number in range(3)]
    parsed = parse(frame_of(*payloads, kind=kind))
    assert [(value.reason, value.raw) for value in parsed if isinstance(value, Rejected)] == [
        (reason, payload) for payload in payloads
    ]
    assert len(parsed) == 3


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ('{"channel":"trade","type":"update"}', "missing_field"),
        ('{"channel":"trade","type":"update","data":{}}', "wrong_type"),
        ('{"channel":"trade","type":"update","data":null}', "wrong_type"),
        ('{"channel":7}', "wrong_type"),
        ('{"event":7}', "wrong_type"),
        ("{}", "unknown_frame"),
        ('{"hello":1}', "unknown_frame"),
        ('[993,5,"trade","XMR/USD"]', "wrong_type"),
        ('[993,"trade"]', "unknown_frame"),
        ("[1,2,3,4]", "unknown_frame"),
    ],
)
def test_frames_without_trades_to_count(frame: str, reason: str) -> None:
    (rejected,) = parse(frame)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.raw) == (reason, frame)


@pytest.mark.parametrize(
    "frame",
    [
        '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
        '"connection_id":16389994220698793191}]}',
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD"}]}',
        '{"channel":"book","type":"snapshot","data":[]}',
        '{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z"}',
        '{"method":"unsubscribe","success":true,"result":{"channel":"trade","symbol":"BTC/USD"}}',
        '{"channel":"trade","type":"update","data":[]}',
        '{"connectionID":18239578009413566319,"event":"systemStatus","status":"online","version":"1.8.3"}',
        '{"event":"pong","reqid":42}',
        '{"event":"subscriptionStatus","status":"unsubscribed","pair":"XBT/USD"}',
        '[340,{"a":["5525.4",1,"1.0"]},"ticker","XBT/USD"]',
        '[1234,{"a":[]},{"b":[]},"book-10","XBT/USD"]',
    ],
)
def test_ignored(frame: str) -> None:
    assert parse(frame) == []


def test_control_messages() -> None:
    assert parse('{"channel":"heartbeat"}') == [Heartbeat()]
    acknowledged = (
        '{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USDT","snapshot":true},"success":true,'
        '"time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z","req_id":1}'
    )
    assert parse(acknowledged) == [Subscribed(("BTC/USDT",), request=1, is_one=True)]
    refused = '{"error":"Currency pair not supported XDG/USD","method":"subscribe","success":false,"symbol":"XDG/USD"}'
    assert parse(refused) == [Refused("Currency pair not supported XDG/USD", "DOGE/USD", is_final=True)]
    assert parse('{"error":"Exceeded msg rate"}') == [Refused(message="Exceeded msg rate")]
    (silent,) = parse('{"method":"subscribe","success":false}')
    assert isinstance(silent, Refused)


def test_v1_trades_have_no_id() -> None:
    rows = ['["354.11000000","0.89594024","1618678142.557535","s","l",""]', '["1","2","3","b","m",""]']
    parsed = parse(f'[993,[{",".join(rows)}],"trade","XMR/USD"]')
    assert [(value.reason, value.raw) for value in parsed if isinstance(value, Rejected)] == [
        ("no_trade_id", row) for row in rows
    ]
    assert len(parsed) == 2


def test_v1_control_messages() -> None:
    assert parse('{"event":"heartbeat"}') == [Heartbeat()]
    subscribed = (
        '{"channelID":993,"channelName":"trade","event":"subscriptionStatus","pair":"XBT/CHF","status":"subscribed",'
        '"subscription":{"name":"trade"}}'
    )
    assert parse(subscribed) == [Subscribed(symbols=("BTC/CHF",))]
    refused = (
        '{"errorMessage":"Currency pair not supported","event":"subscriptionStatus","pair":"A/B","status":"error"}'
    )
    assert parse(refused) == [Refused(message="Currency pair not supported", symbol="A/B")]


def test_subscribe_names_all_symbols_in_one_message() -> None:
    (message,) = kraken.subscribe(["BTC/USDT", "XDG/USD"])
    assert json.loads(message) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USDT", "DOGE/USD"], "snapshot": True},
        "req_id": 1,
    }


def test_xbt_is_btc() -> None:
    (trade,) = parse(frame_of(KRAKEN.payload(symbol='"XBT/USD"')))
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.native_symbol) == ("BTC/USD", "XBT/USD")
