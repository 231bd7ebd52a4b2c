"""Kraken WebSocket v1, frozen and recognised for recorded files only. Its trades carry no id, so none can be kept.

Source: "Spot WebSocket v1" of the Kraken API documentation. A trade frame is
`[993,[["354.11000000","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]`.
"""

from __future__ import annotations

from collections.abc import Callable

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Heartbeat, Parsed, Refused, Subscribed
from lakehouse.exchanges.parse_errors import Fault
from lakehouse.exchanges.venue import known_symbol


def parse_array(venue: str, text: str, ts_ingest: int) -> list[Parsed]:
    """Parse a v1 frame, a JSON array: one Rejected for each trade of a trade frame, as v1 trades have no id.

    An empty list for other channels; one Rejected for a frame that cannot be read. `ts_ingest` in µs.
    """
    items = parse_errors.array_items(text)
    if isinstance(items, Fault):
        return [parse_errors.rejected(venue, items, text, ts_ingest)]
    # Book frames may hold two payloads, so the names are counted from the end.
    channel = parse_errors.string(items[-2]) if len(items) >= 4 else None
    if channel is None:
        fault = Fault("unknown_frame", f"found {parse_errors.shorten(text)}; expected [id, payload, channel, pair]")
        return [parse_errors.rejected(venue, fault, text, ts_ingest)]
    if channel != "trade":
        return []
    trades = parse_errors.array_items(items[1])
    if isinstance(trades, Fault):
        fault = parse_errors.wrong_type("the trades of a v1 frame", items[1], "an array of trades")
        return [parse_errors.rejected(venue, fault, text, ts_ingest)]
    fault = Fault(
        "no_trade_id", f"found a v1 trade of {parse_errors.shorten(items[-1])} without an id; expected a v2 trade"
    )
    return [parse_errors.rejected(venue, fault, trade, ts_ingest) for trade in trades]


def parse_event(
    venue: str, canonical: Callable[[str], str], fields: dict[str, str], text: str, ts_ingest: int
) -> list[Parsed]:
    """Turn a v1 event (`heartbeat`, `subscriptionStatus`, `error`, …) into a Heartbeat, Subscribed or Refused.

    `fields` are its JSON literals, `text` the whole frame, `canonical` reads its symbol. Other events give an empty
    list, an event whose name is not a string a Rejected.
    """
    event = parse_errors.string(fields["event"])
    if event is None:
        return [
            parse_errors.rejected(venue, parse_errors.wrong_type("event", fields["event"], "a string"), text, ts_ingest)
        ]
    if event == "heartbeat":
        return [Heartbeat()]
    status = parse_errors.string(fields.get("status"))
    symbol = known_symbol(canonical, parse_errors.string(fields.get("pair")))
    if status == "error" or event == "error":
        return [Refused(message=parse_errors.string(fields.get("errorMessage")) or "no message", symbol=symbol)]
    if event == "subscriptionStatus" and status == "subscribed":
        return [Subscribed(symbols=() if symbol is None else (symbol,))]
    return []
