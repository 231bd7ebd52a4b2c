"""The paths of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from lakehouse.market.symbols import canonical_symbol
from lakehouse.market.venues import VENUES
from lakehouse.serving import answers, models, others
from lakehouse.serving.answers import Answer, Api, Asked
from lakehouse.serving.forms import ARROW, CSV
from lakehouse.serving.parameters import (
    DEFAULT_LIMIT,
    CertifiedSize,
    CursorParameter,
    End,
    FillParameter,
    Limit,
    Size,
    Start,
    Symbol,
    Venue,
    asked_of,
    refuse_unknown,
)
from lakehouse.serving.problems import MEDIA_TYPE, Problem
from lakehouse.serving.wanted import Wanted

_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {**_PROBLEM, "description": "A parameter, the cursor or the range cannot be used."},
    410: {**_PROBLEM, "description": "The version that a cursor names is no longer kept."},
    "4XX": {**_PROBLEM, "description": "The request cannot be answered."},
    "5XX": {**_PROBLEM, "description": "The lake cannot be read now, or not in time."},
}
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ROWS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Rows; the form is that of Accept.", "content": {CSV: _TEXT, ARROW: _BINARY}},
    304: {"description": "The client's copy (If-None-Match) is still right."},
    **_PROBLEMS,
}

router = APIRouter(prefix="/v1", dependencies=[Depends(refuse_unknown)])


@router.get("/markets", responses=_ROWS, response_model=models.Markets, tags=["lake"])
async def markets(request: Request) -> Response:
    """List the markets of which the lake has trades."""
    api, asked = _api(request), asked_of(request)
    return _response(await api.pool.run(lambda call: others.markets(api, asked, call)))


@router.get(
    "/price",
    responses={key: value for key, value in _ROWS.items() if key != 304},
    response_model=models.Prices,
    tags=["live"],
)
async def price(request: Request, venue: Venue = None, symbol: Symbol = None) -> Response:
    """Return the latest trade of each market, from Kafka. `connected` is false if Kafka does not answer."""
    if venue is not None and venue not in VENUES:
        raise Problem("bad-parameter", f"unknown venue {venue[:40]!r}; expected one of {', '.join(VENUES)}")
    try:
        name = None if symbol is None else canonical_symbol(symbol)
    except ValueError as error:
        raise Problem("bad-parameter", str(error)) from None
    return _response(others.prices(_api(request), asked_of(request), venue, name))


@router.get("/bars", responses=_ROWS, response_model=models.Bars, tags=["lake"])
async def bars(
    request: Request,
    venue: Venue = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    size: Size = "1m",
    fill: FillParameter = "none",
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Return bars that start in a range, ordered by venue, symbol and start."""
    wanted = Wanted("bars", venue, symbol, start, end, size, fill)
    return await _rows(request, wanted, asked_of(request, limit, cursor))


@router.get("/trades", responses=_ROWS, response_model=models.Trades, tags=["lake"])
async def trades(
    request: Request,
    venue: Venue = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Return trades of a range, ordered by venue, symbol and trade id."""
    return await _rows(request, Wanted("trades", venue, symbol, start, end), asked_of(request, limit, cursor))


@router.get("/indicators", responses=_ROWS, response_model=models.Indicators, tags=["lake"])
async def indicators(
    request: Request,
    venue: Venue = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Return moving averages, rolling VWAPs and returns of the one-minute bars of a range."""
    return await _rows(request, Wanted("indicators", venue, symbol, start, end), asked_of(request, limit, cursor))


@router.get("/moves", responses=_ROWS, response_model=models.Moves, tags=["lake"])
async def moves(
    request: Request,
    venue: Venue = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Return the minutes of a range whose price moved beyond the threshold."""
    return await _rows(request, Wanted("moves", venue, symbol, start, end), asked_of(request, limit, cursor))


@router.get("/spreads", responses=_ROWS, response_model=models.Spreads, tags=["lake"])
async def spreads(
    request: Request,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Return the price of a pair at each venue, and the widest difference, by minute."""
    return await _rows(request, Wanted("spreads", None, symbol, start, end), asked_of(request, limit, cursor))


@router.get("/completeness", responses=_ROWS, response_model=models.Certificates, tags=["lake"])
async def completeness(
    request: Request,
    venue: Venue = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    size: CertifiedSize = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Certify a range: how many trade ids of each market are present, repaired, open, unavailable, and by what proof.

    Without start and end, all that the ledger of ids knows. With a size, each bar of the range.
    """
    wanted = Wanted("completeness", venue, symbol, start, end, size)
    return await _rows(request, wanted, asked_of(request, limit, cursor))


@router.get("/health", responses=_PROBLEMS, response_model=models.Health, tags=["live"])
async def health(request: Request) -> Response:
    """Say whether the lake can be read and Kafka answers."""
    api = _api(request)
    return _response(await api.pool.run(lambda call: others.health(api, call)))


def _api(request: Request) -> Api:
    api: Api = request.app.state.api
    return api


async def _rows(request: Request, wanted: Wanted, asked: Asked) -> Response:
    api = _api(request)
    return _response(await api.pool.run(lambda call: answers.rows(api, wanted, asked, call)))


def _response(answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=304, headers=answer.headers)
    return Response(answer.body, headers=answer.headers, media_type=answer.media_type)
