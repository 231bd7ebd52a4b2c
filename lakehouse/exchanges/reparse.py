"""Parse the raw text of a Rejected again, with a parser that may be better by now. `lakehouse.replay` uses it.

A parser rejects the smallest part that it can name: the payload of a Binance stream, one item of Kraken's `data`; but
it can read that part only inside a frame. So the part is put back into a frame like the one that it came from. The rest
of the frame is lost: which Binance stream it was (only those of trades reject a payload), and whether Kraken sent the
trade live or in a snapshot (taken as live). If that word itself was the fault, the part stays unreadable.
"""

from __future__ import annotations

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Parsed, Rejected
from lakehouse.exchanges.parse_errors import Fault
from lakehouse.exchanges.venue import Venue

#: Faults that Kraken's parser finds in the `type` of a frame, not in the trade in it.
_KRAKEN_TYPE_FAULTS = ("expected the field type too", "expected update or snapshot")


def parse_again(venue: Venue, rejected: Rejected) -> list[Parsed]:
    """Parse a rejected text with the venue's present parser and return the values, like `Venue.parse`. Never raises.

    If the parser has not changed since, the text is rejected again.
    """
    frame = _FRAMES[venue.name](rejected) if venue.name in _FRAMES else rejected.raw
    return venue.parse(frame.encode("utf-8", "surrogatepass"), rejected.ts_ingest)


# Only whole JSON is put into a frame.


def _binance(rejected: Rejected) -> str:
    """Events are in the `data` of a stream; replies and what is no JSON were rejected as they came."""
    fields = parse_errors.object_fields(rejected.raw)
    if isinstance(fields, Fault) or "data" in fields:
        return rejected.raw
    is_reply = "e" not in fields and bool(fields.keys() & {"result", "error", "code", "id"})
    return rejected.raw if is_reply else f'{{"stream":"@trade","data":{rejected.raw}}}'


def _kraken(rejected: Rejected) -> str:
    """Trades are in the `data` of a frame; whole frames have a channel, an event, a method or an error."""
    fields = parse_errors.object_fields(rejected.raw)
    items = parse_errors.array_items(rejected.raw)
    # A v1 frame is `[993,[[…]],"trade","XMR/USD"]`, a trade of it `["354.11","0.89","1618678142.55","s","l",""]`.
    is_v1_frame = len(items) >= 4 and parse_errors.kind(items[1].strip()) in ("an array", "an object")
    if not isinstance(items, Fault) and (rejected.reason == "no_trade_id" or not is_v1_frame):
        return f'[0,[{rejected.raw}],"trade",""]'
    if isinstance(fields, Fault) or rejected.detail.endswith(_KRAKEN_TYPE_FAULTS):
        return rejected.raw
    is_frame = "trade_id" not in fields and bool(fields.keys() & {"channel", "event", "method", "error", "Error"})
    return rejected.raw if is_frame else f'{{"channel":"trade","type":"update","data":[{rejected.raw}]}}'


_FRAMES = {"binance": _binance, "kraken": _kraken}
