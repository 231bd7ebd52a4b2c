"""`/v1/stream`: one client of the WebSocket, from its wish to its end, and how its connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.serving import stream_bars, stream_trades
from lakehouse.serving.access import SUBPROTOCOL
from lakehouse.serving.answers import Api
from lakehouse.serving.problems import Problem
from lakehouse.serving.stream_trades import TooSlowError
from lakehouse.serving.wish import Wish

log = logging.getLogger(__name__)

#: Seconds that a client may take for one message, and then to read so far that it is told that it is cut.
SEND_SECONDS = 10.0
CLOSE_SECONDS = 20.0

#: Close codes: RFC 6455 (1000 done, 1008 refused, 1011 an error of ours, 1013 try again later).
DONE, REFUSED, BROKEN, LATER = 1000, 1008, 1011, 1013


async def serve_stream(socket: WebSocket, api: Api, wish: Wish) -> None:
    """Serve one client until it leaves, the end of its range is reached, or it is too slow."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await accept(socket)
    sending = asyncio.create_task(_send_all(socket, api, wish))
    leaving = asyncio.create_task(_until_left(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        results = await asyncio.gather(sending, leaving, return_exceptions=True)
    end = _end(results[0])
    if end is not None:
        code, reason = end
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):  # one that does not read at all is not told
                await socket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))


def _end(error: BaseException | None) -> tuple[int, str] | None:
    """Return the code and the reason with which a stream ends; None if the client has left."""
    if error is None:
        return DONE, "the end of the range"
    if isinstance(error, TooSlowError):
        return LATER, "too slow: read faster, or ask for a shorter range"
    if isinstance(error, (Problem, *READ_ERRORS)):
        return LATER, str(error).splitlines()[0]
    if isinstance(error, asyncio.CancelledError | WebSocketDisconnect | RuntimeError):
        return None
    log.error("a stream failed", exc_info=error)
    return BROKEN, f"an error of ours ({type(error).__name__}); its trace is in the server's log"


async def accept(socket: WebSocket) -> None:
    """Open a client's socket, with SUBPROTOCOL if the client has offered it.

    A browser that has offered subprotocols closes a connection whose server accepts none of them.
    """
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)


async def _until_left(socket: WebSocket) -> None:
    """Take what the client sends, which means nothing, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _send_all(socket: WebSocket, api: Api, wish: Wish) -> None:
    parts = (
        stream_trades.parts(api, wish)
        if wish.size is None
        else stream_bars.parts(api, wish.venue, wish.symbol, wish.size, wish.start)
    )
    async with contextlib.aclosing(parts):  # so that a subscription ends now, and not when memory is collected
        async for message in parts:
            await _send(socket, message)


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await socket.send_text(msgspec.json.encode(message).decode())
    except TimeoutError:
        raise TooSlowError from None
