"""Put rejected parts of Kraken's frames back into a frame, to be parsed again. Pure.

The parser rejects one item of `data`. The word that tells live trades from a snapshot is lost: the trade is taken as
live. If that word itself was the fault, the part stays unreadable.
"""

from __future__ import annotations

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Rejected
from lakehouse.exchanges.parse_errors import Fault

#: Faults that the parser finds in the `type` of a frame, not in the trade in it.
_TYPE_FAULTS = ("expected the field type too", "expected update or snapshot")


def frame_of(rejected: Rejected) -> str:
    """Return a frame around a rejected trade: a v2 update around an object, a v1 array frame around an array.

    Other texts come back unchanged: whole frames of v1 and v2 (those have a channel, an event, a method or an error),
    texts that are neither a JSON object nor an array, and parts that were rejected because of the frame's `type`.
    """
    fields = parse_errors.object_fields(rejected.raw)
    items = parse_errors.array_items(rejected.raw)
    # A v1 frame is `[993,[[…]],"trade","XMR/USD"]`, a trade of it `["354.11","0.89","1618678142.55","s","l",""]`.
    is_v1_frame = len(items) >= 4 and parse_errors.kind(items[1].strip()) in ("an array", "an object")
    if not isinstance(items, Fault) and (rejected.reason == "no_trade_id" or not is_v1_frame):
        return f'[0,[{rejected.raw}],"trade",""]'
    if isinstance(fields, Fault) or rejected.detail.endswith(_TYPE_FAULTS):
        return rejected.raw
    is_frame = "trade_id" not in fields and bool(fields.keys() & {"channel", "event", "method", "error", "Error"})
    return rejected.raw if is_frame else f'{{"channel":"trade","type":"update","data":[{rejected.raw}]}}'
