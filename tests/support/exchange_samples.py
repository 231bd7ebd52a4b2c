"""Valid trades of each venue as JSON literals, so that tests can spoil any one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.exchanges.registry import VENUES, venue
from lakehouse.exchanges.venue import Venue

TS_INGEST = 1_700_000_000_000_000


@dataclass(frozen=True)
class Sample:
    """A trade object of a venue: field → JSON literal, what the fields mean, and the frame around it."""

    venue: str
    fields: dict[str, str]
    roles: dict[str, str]
    wrap: Callable[[str], str]
    #: Canonical symbol, id, price, size, taker side, time in microseconds.
    expected: tuple[str, int, str, str, str, int]
    quoted_decimals: bool = True

    def payload(self, **changes: str | None) -> str:
        """The trade object with the literals of some roles replaced; None leaves the field out."""
        fields: dict[str, str | None] = dict(self.fields)
        for role, literal in changes.items():
            fields[self.roles[role]] = literal
        return "{" + ",".join(f'"{name}":{literal}' for name, literal in fields.items() if literal is not None) + "}"

    def frame(self, **changes: str | None) -> bytes:
        return self.wrap(self.payload(**changes)).encode()

    def decimal(self, text: str) -> str:
        """The literal with which this venue writes a decimal."""
        return f'"{text}"' if self.quoted_decimals else text


BINANCE = Sample(
    venue="binance",
    fields={
        "e": '"trade"',
        "E": "1672515782136999",
        "s": '"BNBBTC"',
        "t": "12345",
        "p": '"0.001"',
        "q": '"100"',
        "T": "1672515782136123",
        "m": "true",
        "M": "true",
    },
    roles={"symbol": "s", "trade_id": "t", "price": "p", "size": "q", "side": "m", "time": "T", "kind": "e"},
    wrap=lambda payload: f'{{"stream":"bnbbtc@trade","data":{payload}}}',
    expected=("BNB/BTC", 12345, "0.001", "100", "sell", 1672515782136123),
)
BINANCE_RAW = Sample(
    venue="binance",
    fields=BINANCE.fields,
    roles=BINANCE.roles,
    wrap=lambda payload: payload,
    expected=BINANCE.expected,
)
KRAKEN = Sample(
    venue="kraken",
    fields={
        "symbol": '"MATIC/USD"',
        "side": '"buy"',
        "price": "0.5147",
        "qty": "6423.46326",
        "ord_type": '"limit"',
        "trade_id": "4665846",
        "timestamp": '"2023-09-25T07:48:36.925533Z"',
    },
    roles={
        "symbol": "symbol",
        "trade_id": "trade_id",
        "price": "price",
        "size": "qty",
        "side": "side",
        "time": "timestamp",
    },
    wrap=lambda payload: f'{{"channel":"trade","type":"update","data":[{payload}]}}',
    expected=("MATIC/USD", 4665846, "0.5147", "6423.46326", "buy", 1695628116925533),
    quoted_decimals=False,
)
COINBASE = Sample(
    venue="coinbase",
    fields={
        "type": '"match"',
        "trade_id": "280232",
        "maker_order_id": '"132fb6ae-456b-4654-b4e0-d681ac05cea1"',
        "taker_order_id": '"a3e8ea5c-ed05-4f6b-9e27-0c1a2b3c4d5e"',
        "side": '"sell"',
        "size": '"985"',
        "price": '"0.00001305"',
        "product_id": '"SKL-BTC"',
        "sequence": "177100030",
        "time": '"2021-04-17T16:43:37.089723Z"',
    },
    roles={
        "symbol": "product_id",
        "trade_id": "trade_id",
        "price": "price",
        "size": "size",
        "side": "side",
        "time": "time",
        "kind": "type",
    },
    wrap=lambda payload: payload,
    expected=("SKL/BTC", 280232, "0.00001305", "985", "buy", 1618677817089723),
)
SAMPLES = {"binance": BINANCE, "binance raw": BINANCE_RAW, "kraken": KRAKEN, "coinbase": COINBASE}

#: The venues, knowing the symbols of the samples and of the recorded frames as subscribed.
READERS: dict[str, Venue] = {
    name: venue(name, ["BNB/BTC", "MATIC/USD", "SKL/BTC", "BTC/USDT", "DOGE/USD"]) for name in VENUES
}
