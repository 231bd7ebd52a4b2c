"""The values that a venue's frame can turn into. Nothing here reads a socket or a clock.

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
    `raw` is the venue's own trade object, verbatim.
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
    sentence for people. `symbol` is the canonical symbol if it could be told, as what is subscribed may have changed
    before the text is read again; messages of older releases have none.
    """

    venue: str
    reason: str
    detail: str
    raw: str
    ts_ingest: int
    symbol: str | None = None


class FeedEvent(msgspec.Struct, frozen=True):
    """Something that happened to a feed. `first_id`..`last_id` (inclusive) is the missing id range of a gap event."""

    venue: str
    event: FeedEventKind
    ts_event: int
    connection_id: str
    symbol: str | None = None
    first_id: int | None = None
    last_id: int | None = None
    detail: str = ""


class Subscribed(msgspec.Struct, frozen=True):
    """The venue acknowledged a subscription. `symbols` are canonical; empty if the reply names none (Binance).

    `request` is the number of the request that it answers, if it says. `is_one`: it is about one symbol, named or not;
    else a reply without a name is about all symbols of its request.
    """

    symbols: tuple[str, ...] = ()
    request: int | None = None
    is_one: bool = False


class Refused(msgspec.Struct, frozen=True):
    """The venue refused a subscription or reported an error. `symbol` is canonical if the reply names one.

    `is_final`: in the venue's words there is no such symbol. Whatever else a venue says may pass, and is asked again.
    `is_whole`: nothing of the request was subscribed, so its other symbols get no reply of their own.
    `request` is the number of the request that it answers, if it says.
    """

    message: str
    symbol: str | None = None
    is_final: bool = False
    is_whole: bool = False
    request: int | None = None


class Heartbeat(msgspec.Struct, frozen=True):
    """A sign of life. Coinbase also names the newest trade id of a symbol, which reveals a gap at the tail."""

    symbol: str | None = None
    last_trade_id: int | None = None


class Shutdown(msgspec.Struct, frozen=True):
    """The venue announced that it will close this connection (Binance `serverShutdown`)."""


#: One frame turns into a list of these. A frame that a trade feed must ignore turns into an empty list.
Parsed = Trade | Rejected | Subscribed | Refused | Heartbeat | Shutdown

_encoder = msgspec.json.Encoder()


def encode(message: Trade | Rejected | FeedEvent) -> bytes:
    """The Kafka value of a message: compact JSON, UTF-8, fields in declaration order."""
    return _encoder.encode(message)
