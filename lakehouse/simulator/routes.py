"""The addresses that the simulated exchange serves: WebSockets and REST calls of each venue, and those of `admin`.

The venues' limits and the active faults refuse connections and calls here; `admin` has no limits.
"""

from __future__ import annotations

import asyncio
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lakehouse.simulator.admin import admin_routes
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults import http_refusals
from lakehouse.simulator.faults.model import Refusal, RestCall
from lakehouse.simulator.transport import transport_of
from lakehouse.simulator.venues.model import Answer, Connect, SimulatedVenue
from lakehouse.simulator.venues.registry import VENUES


def build_app(exchange: Exchange) -> Starlette:
    """Build the ASGI application that serves one simulator: the venues' WebSockets and REST calls, and `/admin`."""
    venues = VENUES.values()
    sockets = [_socket(exchange, venue, *one) for venue in venues for one in venue.sockets.items()]
    calls = [_call(exchange, venue, *one) for venue in venues for one in venue.rest.items()]
    return Starlette(routes=[*sockets, *calls, *admin_routes(exchange)])


def _socket(exchange: Exchange, venue: SimulatedVenue, path: str, connect: Connect) -> WebSocketRoute:
    async def serve(socket: WebSocket) -> None:
        """Serve one connection until it ends."""
        refusal = _refusal(exchange, venue)
        if refusal is not None:
            await _refuse(socket, refusal)
            return
        await socket.accept()
        connection = connect(exchange, transport_of(socket.scope), socket.query_params, socket.path_params)
        exchange.connections[connection] = None
        connection.opened()
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if connection in exchange.connections:  # not after we have cut it
                    text = message.get("text")
                    connection.received(message["bytes"] if text is None else text)
        finally:
            exchange.forget(connection)

    return WebSocketRoute(f"/{venue.name}{path}", serve)


def _refusal(exchange: Exchange, venue: SimulatedVenue) -> Refusal | None:
    """The refusal of a new connection, by a limit or a fault; None if it may be made."""
    wait = exchange.gates.attempt(venue.name, time.monotonic())
    if wait:
        return http_refusals.handshake(venue.profile.words, 429, wait, "seconds")
    return exchange.faults.admits(venue.name) if exchange.faults.active else None


async def _refuse(socket: WebSocket, refusal: Refusal) -> None:
    if refusal.status:
        await socket.send_denial_response(Response(refusal.body, refusal.status, dict(refusal.headers)))
    else:
        transport_of(socket.scope).abort()
        await socket.close()  # only so that the server below knows: nothing of it is sent


def _call(exchange: Exchange, venue: SimulatedVenue, path: str, answer: Answer) -> Route:
    async def reply_to(request: Request) -> Response:
        call = RestCall(
            venue.name,
            request.url.path.removeprefix(f"/{venue.name}"),
            dict(request.query_params),
            dict(request.headers),
            request.path_params,
        )
        reply = exchange.gates.call(venue.name, venue.call_weight, time.monotonic())
        if reply is None:
            reply = answer(exchange, call)
            if exchange.faults.active:
                reply = exchange.faults.rest(call, reply)
                await asyncio.sleep(exchange.faults.rest_delay(call))
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")

    return Route(f"/{venue.name}{path}", reply_to)
