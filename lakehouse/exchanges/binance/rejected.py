"""Put rejected parts of Binance's frames back into a frame, to be parsed again. Pure.

The parser rejects the payload of a stream. The stream's name is lost, but only payloads of trade streams are rejected.
"""

from __future__ import annotations

from lakehouse.exchanges import parse_errors
from lakehouse.exchanges.model import Rejected
from lakehouse.exchanges.parse_errors import Fault


def frame_of(rejected: Rejected) -> str:
    """Return a frame of a trade stream around a rejected payload.

    Other texts come back unchanged: whole frames (with `data`), replies, and texts that are not JSON objects.
    """
    fields = parse_errors.object_fields(rejected.raw)
    if isinstance(fields, Fault) or "data" in fields:
        return rejected.raw
    is_reply = "e" not in fields and bool(fields.keys() & {"result", "error", "code", "id"})
    return rejected.raw if is_reply else f'{{"stream":"@trade","data":{rejected.raw}}}'
