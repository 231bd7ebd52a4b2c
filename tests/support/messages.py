"""Kafka messages as ingest would send them, and as it never would."""

from __future__ import annotations

import json
import random
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse.settings import Settings

#: 2026-01-01 00:00:00 UTC in microseconds.
NEW_YEAR = 1_767_225_600_000_000


def trade(**changes: Any) -> dict[str, Any]:
    """One good trade message; a change to None leaves the field out."""
    fields: dict[str, Any] = {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "native_symbol": "BTCUSDT",
        "trade_id": 1,
        "price": "43250.10",
        "size": "0.00100000",
        "side": "buy",
        "ts_event": NEW_YEAR,
        "ts_ingest": NEW_YEAR + 1_000,
        "source": "live",
        "raw": "{}",
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def trades(
    count: int, seed: int, first_id: int = 1, start: int = NEW_YEAR, step: int = 400_000
) -> list[dict[str, Any]]:
    """Seeded trades of two venues and two symbols, ids contiguous per (venue, symbol), times rising by `step` µs."""
    rng = random.Random(seed)
    ids: dict[tuple[str, str], int] = {}
    made = []
    for number in range(count):
        venue, symbol = rng.choice(["binance", "coinbase"]), rng.choice(["BTC/USDT", "ETH/USDT"])
        ids[venue, symbol] = ids.get((venue, symbol), first_id - 1) + 1
        made.append(
            trade(
                venue=venue,
                symbol=symbol,
                trade_id=ids[venue, symbol],
                price=f"{rng.randrange(1, 10**9)}.{rng.randrange(10**8):08d}",
                size=f"{rng.randrange(10)}.{rng.randrange(1, 10**8):08d}",
                side=rng.choice(["buy", "sell"]),
                ts_event=start + number * step + rng.randrange(step),
            )
        )
    return made


def send(settings: Settings, topic: str, values: list[Any]) -> None:
    """Produce values (bytes, None, or anything that JSON holds) and wait for the broker's word on each."""
    producer = Producer({"bootstrap.servers": settings.bootstrap(), "enable.idempotence": True, "log_level": 0})
    for value in values:
        payload = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        key = value["symbol"] if isinstance(value, dict) and isinstance(value.get("symbol"), str) else "none"
        producer.produce(topic, key=key, value=payload)
    assert producer.flush(30) == 0


def delete_before(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """Remove the messages of a partition below an offset, as the retention does."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap(), "log_level": 0})
    (future,) = admin.delete_records([TopicPartition(topic, partition, offset)]).values()
    assert future.result().low_watermark == offset
