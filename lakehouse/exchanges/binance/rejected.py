"""Rejected parts of Binance's frames, put back into a frame for another reading. Pure.

The parser rejects the payload of a stream. Which stream it was is lost; only those of trades reject a payload.
"""

from __future__ import annotations

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Rejected
from lakehouse.exchanges.parse_errors import Fault


def frame_of(rejected: Rejected) -> str:
    """Return a frame of a trade stream around a rejected payload.

    Other texts come back unchanged: whole frames (with `data`), replies, and texts that are no JSON object.
    """
    fields = parse_errors.object_fields(rejected.raw)
    if isinstance(fields, Fault) or "data" in fields:
        return rejected.raw
    is_reply = "e" not in fields and bool(fields.keys() & {"result", "error", "code", "id"})
    return rejected.raw if is_reply else f'{{"stream":"@trade","data":{rejected.raw}}}'
