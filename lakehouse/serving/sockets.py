"""The path of the WebSocket."""

from __future__ import annotations

import contextlib

import msgspec
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from lakehouse.errors import SettingError
from lakehouse.serving.answers import Api
from lakehouse.serving.problems import Problem
from lakehouse.serving.stream import REFUSED, accept, serve_stream
from lakehouse.serving.wish import wish_of

router = APIRouter(prefix="/v1")


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Send the trades or bars of a market: first those since `from` out of the lake, then live."""
    api: Api = socket.app.state.api
    try:
        wish = wish_of(socket.query_params.multi_items())
    except (SettingError, Problem) as error:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the client has left
            await accept(socket)
            await socket.send_text(msgspec.json.encode({"type": "problem", "detail": str(error)}).decode())
            await socket.close(REFUSED, "see the problem")
        return
    await serve_stream(socket, api, wish)
