"""The addresses of the simulated exchange: each venue's WebSocket and REST; `admin` adds its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lakehouse.simulator import rest
from lakehouse.simulator.admin import admin_routes
from lakehouse.simulator.connection import Session
from lakehouse.simulator.exchange import Hub
from lakehouse.simulator.faults import refusals
from lakehouse.simulator.faults.model import Refusal, RestCall, RestReply
from lakehouse.simulator.transport import wire_of
from lakehouse.simulator.venues.binance.session import BinanceSession
from lakehouse.simulator.venues.coinbase.session import CoinbaseSession
from lakehouse.simulator.venues.kraken.session import KrakenSession

#: Every call for trades costs so much of Binance's budget; on the other venues calls are counted.
BINANCE_WEIGHT = 25.0


def build_app(hub: Hub) -> Starlette:
    """The ASGI application of one simulator."""
    return Starlette(routes=[*_sockets(hub), *_rest(hub), *admin_routes(hub)])


def _sockets(hub: Hub) -> list[WebSocketRoute]:
    async def binance_combined(socket: WebSocket) -> None:
        streams = socket.query_params.get("streams", "")
        await _serve(
            hub,
            socket,
            lambda: BinanceSession(hub, wire_of(socket.scope), socket.query_params, streams, wrapped=True),
            "binance",
        )

    async def binance_raw(socket: WebSocket) -> None:
        streams = socket.path_params.get("streams", "")
        await _serve(
            hub,
            socket,
            lambda: BinanceSession(hub, wire_of(socket.scope), socket.query_params, streams, wrapped=False),
            "binance",
        )

    async def kraken(socket: WebSocket) -> None:
        await _serve(hub, socket, lambda: KrakenSession(hub, wire_of(socket.scope), socket.query_params), "kraken")

    async def coinbase(socket: WebSocket) -> None:
        await _serve(hub, socket, lambda: CoinbaseSession(hub, wire_of(socket.scope), socket.query_params), "coinbase")

    return [
        WebSocketRoute("/binance/stream", binance_combined),
        WebSocketRoute("/binance/ws", binance_raw),
        WebSocketRoute("/binance/ws/{streams:path}", binance_raw),
        WebSocketRoute("/kraken/v2", kraken),
        WebSocketRoute("/coinbase", coinbase),
    ]


async def _serve(hub: Hub, socket: WebSocket, build: Callable[[], Session], venue: str) -> None:
    """The life of one connection."""
    refusal = _refusal(hub, venue)
    if refusal is not None:
        await _refuse(socket, refusal)
        return
    await socket.accept()
    session = build()
    hub.sessions[session] = None
    session.opened()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if session in hub.sessions:  # not after we have cut it
                text = message.get("text")
                session.received(message["bytes"] if text is None else text)
    finally:
        hub.forget(session)


def _refusal(hub: Hub, venue: str) -> Refusal | None:
    """Why a connection may not be made: too many attempts, or a fault."""
    wait = hub.gates.attempt(venue, time.monotonic())
    if wait:
        return refusals.handshake(venue, 429, wait, "seconds")
    return hub.faults.admits(venue) if hub.faults.active else None


async def _refuse(socket: WebSocket, refusal: Refusal) -> None:
    if refusal.status:
        await socket.send_denial_response(Response(refusal.body, refusal.status, dict(refusal.headers)))
    else:
        wire_of(socket.scope).abort()
        await socket.close()  # only so that the server below knows: nothing of it is sent


def _rest(hub: Hub) -> list[Route]:
    async def historical(request: Request) -> Response:
        return await _reply(
            hub, request, "binance", lambda call: rest.binance_trades(hub, call, request.headers, from_id=True)
        )

    async def newest(request: Request) -> Response:
        return await _reply(
            hub, request, "binance", lambda call: rest.binance_trades(hub, call, request.headers, from_id=False)
        )

    async def kraken(request: Request) -> Response:
        return await _reply(hub, request, "kraken", lambda call: rest.kraken_trades(hub, call))

    async def coinbase(request: Request) -> Response:
        product = request.path_params["product"]
        return await _reply(hub, request, "coinbase", lambda call: rest.coinbase_trades(hub, call, product))

    return [
        Route("/binance/api/v3/historicalTrades", historical),
        Route("/binance/api/v3/trades", newest),
        Route("/kraken/0/public/Trades", kraken),
        Route("/coinbase/products/{product}/trades", coinbase),
    ]


async def _reply(hub: Hub, request: Request, venue: str, answer: Callable[[RestCall], RestReply]) -> Response:
    call = RestCall(venue, request.url.path.removeprefix(f"/{venue}"), dict(request.query_params))
    reply = hub.gates.call(venue, BINANCE_WEIGHT if venue == "binance" else 1.0, time.monotonic())
    if reply is None:
        reply = answer(call)
        if hub.faults.active:
            reply = hub.faults.rest(call, reply)
            await asyncio.sleep(hub.faults.rest_delay(call))
    return Response(reply.body, reply.status, dict(reply.headers), "application/json")
