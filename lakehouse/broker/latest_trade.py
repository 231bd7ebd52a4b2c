"""A trade as the API and the sinks read it from Kafka."""

from __future__ import annotations

import msgspec


class LatestTrade(msgspec.Struct, frozen=True):
    """A trade as ingest sent it; times are µs since the epoch, price and size the venue's decimal strings."""

    venue: str
    symbol: str
    trade_id: int
    price: str
    size: str
    side: str
    ts_event: int
    ts_ingest: int
    source: str


read_trade = msgspec.json.Decoder(LatestTrade).decode
