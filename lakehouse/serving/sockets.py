"""The path of the WebSocket, and its parameters."""

from __future__ import annotations

import math

import msgspec
from fastapi import APIRouter, WebSocket

from lakehouse.client.bars import minutes_of
from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError
from lakehouse.market.symbols import canonical_symbol
from lakehouse.market.venues import VENUES
from lakehouse.serving.access import SUBPROTOCOL
from lakehouse.serving.answers import Api
from lakehouse.serving.stream import REFUSED, Wish, serve_stream

router = APIRouter(prefix="/v1")

_KNOWN = ("venue", "symbol", "kind", "size", "from", "to", "speed")


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Send the trades or bars of a market: those from `from` on out of the lake, then live."""
    api: Api = socket.app.state.api
    # A browser that has offered subprotocols ends a connection whose server takes none of them.
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    try:
        wish = wish_of(dict(socket.query_params))
    except SettingError as error:
        await socket.send_text(msgspec.json.encode({"type": "problem", "detail": str(error)}).decode())
        await socket.close(REFUSED, "see the problem")
        return
    await serve_stream(socket, api, wish)


def wish_of(query: dict[str, str]) -> Wish:
    """Return what the parameters of a URL ask for. Raises SettingError, one line, if one cannot be used."""
    for name in query:
        if name not in _KNOWN:
            raise SettingError(f"parameter {name[:40]!r}", f"some of {', '.join(_KNOWN)}")
    venue, symbol = query.get("venue", ""), query.get("symbol", "")
    if venue not in VENUES:
        raise SettingError(f"venue {venue[:40]!r}", f"one of {', '.join(VENUES)}")
    try:
        symbol = canonical_symbol(symbol)
    except ValueError as error:
        raise SettingError(str(error)[:200]) from None
    kind = query.get("kind", "trades")
    if kind not in ("trades", "bars"):
        raise SettingError(f"kind {kind[:40]!r}", "trades or bars")
    size = query.get("size", "1m") if kind == "bars" else None
    if size is not None:
        minutes_of(size)
    wanted = TimeRange.of(query.get("from"), query.get("to"))
    if wanted.start is None and (wanted.end is not None or "speed" in query):
        raise SettingError("an end or a speed without a beginning", "from=, where the past is to begin")
    return Wish(venue, symbol, wanted.start, wanted.end, _speed(query.get("speed", "0")), size)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not (math.isfinite(speed) and speed >= 0):
        raise SettingError(f"speed {text[:20]!r}", "how many seconds of the past a second; 0 is as fast as possible")
    return speed
