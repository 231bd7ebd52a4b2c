"""Read trades from Kafka's messages for the API and the sinks: only trades that Silver accepts."""

from __future__ import annotations

import msgspec

from lakehouse.transforms.message_fields import field_texts
from lakehouse.transforms.message_rules import TRADE_RULES, Message, first_unmet


class LatestTrade(msgspec.Struct, frozen=True, gc=False):  # 100,000 are kept (`serving.fan_out`); none is in a cycle
    """A trade as ingest sent it; times are µs since the epoch, price and size the venue's decimal strings."""

    venue: str
    symbol: str
    native_symbol: str
    trade_id: int
    price: str
    size: str
    side: str
    ts_event: int
    ts_ingest: int
    source: str


def read_trade(value: bytes | None, kafka: int, latest: int) -> LatestTrade | None:
    """Return the trade in a message; None if the message is not a trade that Silver accepts.

    `kafka` is Kafka's time of the message, `latest` that plus the tolerance for clocks, in µs since the epoch.
    """
    texts = field_texts(value)
    if first_unmet(TRADE_RULES, Message(value is not None, texts, kafka, latest)) is not None:
        return None
    return LatestTrade(
        texts["venue"],
        texts["symbol"],
        texts["native_symbol"],
        int(texts["trade_id"]),
        texts["price"],
        texts["size"],
        texts["side"],
        int(texts["ts_event"]),
        int(texts["ts_ingest"]),
        texts["source"],
    )
