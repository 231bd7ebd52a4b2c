"""The values that a venue's parser makes of a frame (trades, rejected texts, replies), and the feed events.

The message types (`Trade`, `Rejected`, `FeedEvent`) are also the Kafka wire format: `encode` gives the JSON value.
Times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lakehouse.tables import FeedEventKind

Side = Literal["buy", "sell"]
Source = Literal["live", "snapshot", "repair"]


class Trade(msgspec.Struct, frozen=True):
    """One trade as the venue reported it.

    `price` and `size` are decimal strings exactly as the venue wrote them; `side` is the taker's; `symbol` is canonical
    (`BTC/USDT`), `native_symbol` the venue's own spelling; `trade_id` is unique and contiguous per (venue, symbol);
    `ts_event` is the venue's time, `ts_ingest` when we received it; `raw` is the venue's own trade object, verbatim.
    """

    venue: str
    symbol: str
    native_symbol: str
    trade_id: int
    price: str
    size: str
    side: Side
    ts_event: int
    ts_ingest: int
    source: Source
    raw: str


class Rejected(msgspec.Struct, frozen=True):
    """A frame, or a part of one, that could not be read as a trade: the raw text and why.

    `reason` is a short snake_case name (`not_json`, `missing_field`, `no_trade_id`, `bad_decimal`, …), `detail` one
    sentence for people. `symbol` is canonical, None if it is unknown and in messages of older releases. It is kept
    because other symbols may be subscribed when the text is parsed again.
    """

    venue: str
    reason: str
    detail: str
    raw: str
    ts_ingest: int
    symbol: str | None = None


class FeedEvent(msgspec.Struct, frozen=True):
    """An event in the life of a venue's feed, such as a disconnect or a gap, sent to the topic of feed events.

    `ts_event` (µs) is when it happened here. `first_id`..`last_id` (inclusive) are the ids that a gap event (opened,
    repaired, unavailable) is about, None in other events. `symbol` None: the event is about the whole connection.
    """

    venue: str
    event: FeedEventKind
    ts_event: int
    connection_id: str
    symbol: str | None = None
    first_id: int | None = None
    last_id: int | None = None
    detail: str = ""


class Subscribed(msgspec.Struct, frozen=True):
    """A venue's reply that acknowledges a subscription. `symbols` are canonical; empty if it names none (Binance).

    `request` is the number of the subscribe message that it answers, None if the reply does not say. `is_one`: it is
    about one symbol, even if it names none; else a reply without a name is about all symbols of its request.
    """

    symbols: tuple[str, ...] = ()
    request: int | None = None
    is_one: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A venue's reply that refuses a subscription or reports an error; `message` is the venue's text.

    `symbol` is canonical, None if the reply names none. `is_final`: the venue says that the symbol does not exist; any
    other refusal may pass, and the subscription is tried again. `is_whole`: nothing of the request was subscribed, so
    its other symbols get no reply of their own. `request` is the number of the subscribe message that it answers, None
    if the reply does not say.
    """

    message: str
    symbol: str | None = None
    is_final: bool = False
    is_whole: bool = False
    request: int | None = None


class Heartbeat(msgspec.Struct, frozen=True):
    """A venue's heartbeat message: the connection is alive.

    Coinbase's also gives a symbol's newest trade id (None if unknown), which shows if the latest trades are missing.
    """

    symbol: str | None = None
    last_trade_id: int | None = None


class Shutdown(msgspec.Struct, frozen=True):
    """A venue's message that it will soon close this connection (Binance `serverShutdown`)."""


#: `Venue.parse` turns one frame into a list of these; an empty list for a frame that a trade feed must ignore.
Parsed = Trade | Rejected | Subscribed | Refused | Heartbeat | Shutdown

_encoder = msgspec.json.Encoder()


def encode(message: Trade | Rejected | FeedEvent) -> bytes:
    """Serialize a message to its Kafka value: compact JSON, UTF-8, fields in declaration order."""
    return _encoder.encode(message)
