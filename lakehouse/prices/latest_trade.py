"""Read trades from Kafka's messages for the API and the sinks: only trades that Silver accepts."""

from __future__ import annotations

import msgspec

from lakehouse.transforms.trade_forms import is_good


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


_decode = msgspec.json.Decoder(LatestTrade).decode


def read_trade(value: bytes | None, latest: int) -> LatestTrade | None:
    """Return the trade in a message; None if the message is not a trade that Silver accepts.

    `latest` is Kafka's time of the message plus the tolerance for clocks, in µs since the epoch. Limit: a message that
    Silver can read although its form is not ingest's, such as an id written as a text, is left out.
    """
    try:
        trade = None if value is None else _decode(value.decode())  # all of it is UTF-8, also what is skipped
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if trade is None:
        return None
    texts = {name: getattr(trade, name) for name in _TEXTS}
    times = trade.ts_event, trade.ts_ingest
    return trade if is_good(texts, trade.trade_id, min(times), max(times), latest) else None


_TEXTS = ("venue", "symbol", "native_symbol", "price", "size", "side", "source")
