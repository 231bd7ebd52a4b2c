"""Query parameters, with their descriptions in OpenAPI. `lakehouse.client` gives the values their meaning."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request

from lakehouse.client.bars import minutes_of
from lakehouse.market.venues import VENUES
from lakehouse.serving.answers import Asked
from lakehouse.serving.cursor import MOST_CHARACTERS
from lakehouse.serving.problems import Problem

#: Rows of a page, if nobody says, and at most: some 6 MB of JSON.
DEFAULT_LIMIT = 1_000
MOST_LIMIT = 10_000

_SIZES = [
    f"{count}{unit}"
    for unit, length in (("m", 1), ("h", 60), ("d", 1440))
    for count in range(1, 1440 // length + 1)
    if 1440 % (count * length) == 0
]
assert all(minutes_of(size) for size in _SIZES)

#: Every symbol that `market.symbols` takes has this form, and some others; to fuzz a narrower one takes long.
_SYMBOL = "^[^/-]{1,80}[/-][^/-]{1,80}$"

_TIME = (
    "ISO 8601; UTC without an offset; years 1970 to 2199. Without a start the range begins some rows before its end, "
    "without an end it ends with the newest row."
)

Venue = Annotated[str | None, Query(description="One venue; all if left out.", json_schema_extra={"enum": [*VENUES]})]
Symbol = Annotated[
    str | None,
    Query(
        description="One symbol, BASE/QUOTE; all if left out.",
        examples=["BTC/USDT"],
        json_schema_extra={"pattern": _SYMBOL},
    ),
]
Start = Annotated[
    str | None,
    Query(description=f"First moment, inclusive. {_TIME}", examples=["2026-11-01T12:00:00Z"], max_length=40),
]
End = Annotated[
    str | None,
    Query(description="The moment behind the last, exclusive.", examples=["2026-11-01T13:00:00Z"], max_length=40),
]
Size = Annotated[
    str, Query(description="Length of the bars: any that divides a day.", json_schema_extra={"enum": _SIZES})
]
CertifiedSize = Annotated[
    str | None,
    Query(
        description="Length of bars: a certificate for each, which needs a start; left out: one for the range.",
        json_schema_extra={"enum": _SIZES},
    ),
]
FillParameter = Annotated[
    Literal["none", "forward"],
    Query(description="forward: a bar for each window without trades too, at the close before."),
]
Limit = Annotated[int, Query(description="Most rows of the page.", ge=1, le=MOST_LIMIT)]
CursorParameter = Annotated[
    str | None,
    Query(
        description="`next` of the page before, beside the same parameters. All pages are of one version of the table.",
        max_length=MOST_CHARACTERS,
    ),
]


async def refuse_unknown(request: Request) -> None:
    """Raise Problem for a parameter that a path does not have, or that comes twice: it would be ignored otherwise."""
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            raise Problem(
                "bad-parameter", f"parameter {name[:40]!r}; expected some of {', '.join(sorted(known)) or 'none'}"
            )
    names = [name for name, _ in request.query_params.multi_items()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Problem("bad-parameter", f"parameter {twice!r} {names.count(twice)} times; expected it once")


def asked_of(request: Request, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Asked:
    """Return the parts of a request that its answer depends on, besides its rows: headers, URL and page."""
    headers = request.headers
    accept = ",".join(headers.getlist("accept")) or None
    query = dict(request.query_params)
    return Asked(accept, headers.get("if-none-match"), request.url.path, query, limit, cursor)
