"""The addresses of the simulated exchange: each venue's WebSocket and REST, and `/admin`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lakehouse.settings import canonical_symbol
from lakehouse.simulator import rest
from lakehouse.simulator.binance import BinanceSession
from lakehouse.simulator.coinbase import CoinbaseSession
from lakehouse.simulator.faults import RestCall, RestReply
from lakehouse.simulator.hub import Hub
from lakehouse.simulator.kraken import KrakenSession
from lakehouse.simulator.record import true_trade
from lakehouse.simulator.session import Session
from lakehouse.simulator.wire import wire_of

#: `/admin/record` gives so many trades a page at most.
ADMIN_PAGE_TRADES = 10_000


def build_app(hub: Hub) -> Starlette:
    """The ASGI application of one simulator."""
    return Starlette(routes=[*_sockets(hub), *_rest(hub), *_admin(hub)])


def _sockets(hub: Hub) -> list[WebSocketRoute]:
    async def binance_combined(socket: WebSocket) -> None:
        streams = socket.query_params.get("streams", "")
        await _serve(
            hub, socket, lambda: BinanceSession(hub, wire_of(socket.scope), socket.query_params, streams, wrapped=True)
        )

    async def binance_raw(socket: WebSocket) -> None:
        streams = socket.path_params.get("streams", "")
        await _serve(
            hub, socket, lambda: BinanceSession(hub, wire_of(socket.scope), socket.query_params, streams, wrapped=False)
        )

    async def kraken(socket: WebSocket) -> None:
        await _serve(hub, socket, lambda: KrakenSession(hub, wire_of(socket.scope), socket.query_params))

    async def coinbase(socket: WebSocket) -> None:
        await _serve(hub, socket, lambda: CoinbaseSession(hub, wire_of(socket.scope), socket.query_params))

    return [
        WebSocketRoute("/binance/stream", binance_combined),
        WebSocketRoute("/binance/ws", binance_raw),
        WebSocketRoute("/binance/ws/{streams:path}", binance_raw),
        WebSocketRoute("/kraken/v2", kraken),
        WebSocketRoute("/coinbase", coinbase),
    ]


async def _serve(hub: Hub, socket: WebSocket, build: Callable[[], Session]) -> None:
    """The life of one connection."""
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


def _rest(hub: Hub) -> list[Route]:
    async def historical(request: Request) -> Response:
        return _reply(
            hub, request, "binance", lambda call: rest.binance_trades(hub, call, request.headers, from_id=True)
        )

    async def newest(request: Request) -> Response:
        return _reply(
            hub, request, "binance", lambda call: rest.binance_trades(hub, call, request.headers, from_id=False)
        )

    async def kraken(request: Request) -> Response:
        return _reply(hub, request, "kraken", lambda call: rest.kraken_trades(hub, call))

    async def coinbase(request: Request) -> Response:
        product = request.path_params["product"]
        return _reply(hub, request, "coinbase", lambda call: rest.coinbase_trades(hub, call, product))

    return [
        Route("/binance/api/v3/historicalTrades", historical),
        Route("/binance/api/v3/trades", newest),
        Route("/kraken/0/public/Trades", kraken),
        Route("/coinbase/products/{product}/trades", coinbase),
    ]


def _reply(hub: Hub, request: Request, venue: str, answer: Callable[[RestCall], RestReply]) -> Response:
    call = RestCall(venue, request.url.path.removeprefix(f"/{venue}"), dict(request.query_params))
    reply = hub.faults.rest(call, answer(call))
    return Response(reply.body, reply.status, dict(reply.headers), "application/json")


def _admin(hub: Hub) -> list[Route]:
    def json(value: Any, status: int = 200) -> Response:
        return Response(msgspec.json.encode(value), status, media_type="application/json")

    async def status(request: Request) -> Response:  # noqa: ARG001
        return json(hub.status())

    def pausing(paused: bool) -> Callable[[Request], Awaitable[Response]]:
        async def pause(request: Request) -> Response:  # noqa: ARG001
            hub.paused = paused
            if not paused:
                hub.error = None
            return json({"paused": paused})

        return pause

    async def record(request: Request) -> Response:
        return json(*_record_page(hub, request))

    return [
        Route("/admin/status", status),
        Route("/admin/pause", pausing(True), methods=["POST"]),
        Route("/admin/resume", pausing(False), methods=["POST"]),
        Route("/admin/record/{venue}/{symbol}", record),
    ]


def _record_page(hub: Hub, request: Request) -> tuple[dict[str, Any], int]:
    """The truth from `from_id` on, `limit` trades of it, and the id to ask for next (null at the end)."""
    venue, name = request.path_params["venue"], request.path_params["symbol"]
    try:
        market = hub.markets[venue, canonical_symbol(name)]
        from_id = int(request.query_params.get("from_id", 0))
        limit = max(1, min(ADMIN_PAGE_TRADES, int(request.query_params.get("limit", PAGE_DEFAULT))))
    except KeyError:
        known = ", ".join(f"{of}/{symbol.replace('/', '-')}" for of, symbol in hub.markets)
        return {"error": f"no market {venue}/{name}; expected one of {known}"}, 404
    except ValueError as error:
        return {"error": str(error)}, 400
    symbol, tape = market.listing.symbol, market.tape
    rows = tape.rows(tape.index_of(from_id), limit + 1) if tape else []
    following = rows[limit].trade_id if len(rows) > limit else None
    trades = [true_trade(venue, symbol, row) for row in rows[:limit]]
    lines = [
        {"trade_id": t.trade_id, "price": f"{t.price:f}", "size": f"{t.size:f}", "side": t.side, "ts_event": t.ts_event}
        for t in trades
    ]
    return {"venue": venue, "symbol": symbol, "trades": lines, "next_id": following}, 200


PAGE_DEFAULT = 1000
