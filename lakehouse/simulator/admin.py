"""The simulator's HTTP interface for tests and people, `/admin`: state, pause, faults, and the record of true trades.

All bodies are JSON; an error is `{"error": one line}` with status 400 or 404.

- `GET /admin/status`, `POST /admin/pause`, `POST /admin/resume`.
- `GET /admin/record/{venue}/{BASE-QUOTE}?from_id&limit`: the true trades, a page at a time.
- `POST /admin/faults` begins a fault: `{"kind", "venue", "symbol", "seconds", "share", …}` (`faults.kinds`) → `{"id"}`.
- `GET /admin/faults`: the active ones, what each kind has done, the schedule's next; `DELETE` ends all, schedule too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse.market.symbols import canonical_symbol
from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.kinds import FaultError
from lakehouse.simulator.record import true_trade

#: Trades in a page of `/admin/record`: if no `limit` is given, and at most.
PAGE_DEFAULT = 1000
ADMIN_PAGE_TRADES = 10_000


def admin_routes(exchange: Exchange) -> list[Route]:
    """Build the HTTP routes below `/admin` of one simulator; the module's docstring lists them."""

    def json(value: Any, status: int = 200) -> Response:
        return Response(msgspec.json.encode(value), status, media_type="application/json")

    async def status(request: Request) -> Response:  # noqa: ARG001
        return json(exchange.status())

    def pausing(paused: bool) -> Callable[[Request], Awaitable[Response]]:
        async def pause(request: Request) -> Response:  # noqa: ARG001
            exchange.pause(paused)
            return json({"paused": paused})

        return pause

    async def record(request: Request) -> Response:
        return json(*_record_page(exchange, request))

    async def begin(request: Request) -> Response:
        return json(*_begin(exchange, await request.body()))

    async def shown(request: Request) -> Response:  # noqa: ARG001
        return json(exchange.box.describe() if exchange.box else exchange.faults.status())

    async def end(request: Request) -> Response:  # noqa: ARG001
        return json({"ended": exchange.end_faults()})

    return [
        Route("/admin/status", status),
        Route("/admin/faults", begin, methods=["POST"]),
        Route("/admin/faults", shown, methods=["GET"]),
        Route("/admin/faults", end, methods=["DELETE"]),
        Route("/admin/pause", pausing(True), methods=["POST"]),
        Route("/admin/resume", pausing(False), methods=["POST"]),
        Route("/admin/record/{venue}/{symbol}", record),
    ]


def _begin(exchange: Exchange, body: bytes) -> tuple[dict[str, Any], int]:
    """Begin a fault; a fault that happens once has happened when this returns."""
    try:
        message = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return {"error": f"no JSON: {error}"}, 400
    try:
        return {"id": exchange.begin_fault(message)}, 200
    except FaultError as error:
        return {"error": str(error)}, 400


def _record_page(exchange: Exchange, request: Request) -> tuple[dict[str, Any], int]:
    """The truth from `from_id` on, `limit` trades of it, and the id to ask for next (null at the end)."""
    venue, name = request.path_params["venue"], request.path_params["symbol"]
    try:
        market = exchange.markets[venue, canonical_symbol(name)]
        from_id = int(request.query_params.get("from_id", 0))
        limit = max(1, min(ADMIN_PAGE_TRADES, int(request.query_params.get("limit", PAGE_DEFAULT))))
    except KeyError:
        known = ", ".join(f"{of}/{symbol.replace('/', '-')}" for of, symbol in exchange.markets)
        return {"error": f"no market {venue}/{name}; expected one of {known}"}, 404
    except ValueError as error:
        return {"error": str(error)}, 400
    symbol, tape = market.instrument.symbol, market.tape
    rows = tape.rows(tape.index_of(from_id), limit + 1) if tape else []
    following = rows[limit].trade_id if len(rows) > limit else None
    trades = [true_trade(venue, symbol, row) for row in rows[:limit]]
    lines = [
        {"trade_id": t.trade_id, "price": f"{t.price:f}", "size": f"{t.size:f}", "side": t.side, "ts_event": t.ts_event}
        for t in trades
    ]
    return {"venue": venue, "symbol": symbol, "trades": lines, "next_id": following}, 200
