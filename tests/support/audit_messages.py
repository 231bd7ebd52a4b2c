"""Messages of the small lakes of the tests, and what the audit prints of such a lake."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lakehouse.audit.printer import render
from lakehouse.audit.report import Report
from tests.support.rows import NOON_US

TRADES, REJECTED, EVENTS = "crypto.trades", "crypto.trades.rejected", "crypto.feed_events"
ETH = {"symbol": "ETH/USDT"}


def trade(trade_id: int, **changes: Any) -> dict[str, Any]:
    """A trade as ingest sends it; `partition` says where."""
    return {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "native_symbol": "BTCUSDT",
        "trade_id": trade_id,
        "price": f"{100 + trade_id}.50",
        "size": "0.25",
        "side": "buy",
        "ts_event": NOON_US + trade_id * 10_000_000,
        "ts_ingest": NOON_US + trade_id * 10_000_000 + 500,
        "source": "live",
    } | changes


def event(**changes: Any) -> dict[str, Any]:
    return {"venue": "binance", "event": "connected", "ts_event": NOON_US, "connection_id": "c1"} | changes


def rejected(reason: str = "not_json") -> dict[str, Any]:
    return {"venue": "kraken", "reason": reason, "detail": "found x", "raw": "x", "ts_ingest": NOON_US}


@dataclass
class Message:
    """One Kafka message: a dict becomes JSON, bytes stay."""

    value: Any
    topic: str = TRADES
    partition: int = 0

    @property
    def raw(self) -> bytes:
        return self.value if isinstance(self.value, bytes) else json.dumps(self.value).encode()


def messages(*values: Any, topic: str = TRADES, partition: int = 0) -> list[Message]:
    return [Message(value, topic, partition) for value in values]


def mixed() -> list[Message]:
    """Trades of two symbols on two partitions, a duplicate, a conflict, junk, a rejected frame, an event."""
    return [
        *messages(*(trade(n) for n in range(1, 9)), trade(3), trade(4, ts_event=trade(4)["ts_event"] + 999)),
        *messages(trade(5, price="1.0"), b"junk"),
        *messages(*(trade(n, **ETH) for n in range(70, 75)), trade(71, **ETH), partition=1),
        *messages(rejected(), topic=REJECTED),
        *messages(event(), event(event="disconnected"), topic=EVENTS),
    ]


def more() -> list[Message]:
    return [
        *messages(trade(9, source="repair"), trade(10, ts_event=NOON_US + 125_000_000), trade(13), trade(1)),
        *messages(trade(75, **ETH), partition=1),
        *messages(event(event="gap_unavailable", symbol="BTC/USDT", first_id=11, last_id=11), topic=EVENTS),
    ]


def printed(report: Report) -> str:
    text = io.StringIO()
    Console(width=110, file=text).print(render(report))
    return text.getvalue()
