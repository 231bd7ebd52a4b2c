"""The wish of a client of `/v1/stream`, and how it is read from the parameters of a URL."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lakehouse.client.bars import minutes_of
from lakehouse.client.time_range import TimeRange
from lakehouse.errors import SettingError
from lakehouse.id_ranges import IdRange
from lakehouse.market.symbols import canonical_symbol
from lakehouse.market.venues import VENUES
from lakehouse.serving.wanted import refuse_years

#: Seconds for which trades behind a missing id wait for it, if nobody says, and at most: most repairs take fewer.
HOLD_SECONDS = 30.0
LONGEST_HOLD_SECONDS = 300.0
#: Most ranges of ids in `missing`.
MOST_MISSING = 300

PARAMETERS = ("venue", "symbol", "kind", "size", "from", "to", "speed", "after", "missing", "hold")
_OF_TRADES = ("after", "missing", "hold", "speed", "to")
_LARGEST_ID = 10**18


@dataclass(frozen=True)
class Wish:
    """The wish of a client: a market, from `start` (None: only live) to `end` (None: without end).

    `speed`: how many seconds of the past are sent in a second; 0 is as fast as the client reads. `size`: the length of
    bars; None for trades. `after`: the highest id that the client has, None if it has none. `missing`: ids below
    `after` that it does not have. `hold`: for how many seconds a missing id is waited for.
    """

    venue: str
    symbol: str
    start: dt.datetime | None
    end: dt.datetime | None
    speed: float = 0.0
    size: str | None = None
    after: int | None = None
    missing: tuple[IdRange, ...] = ()
    hold: float = HOLD_SECONDS


def wish_of(parameters: Iterable[tuple[str, str]]) -> Wish:
    """Return what the parameters of a URL ask for. Raises SettingError or Problem, one line, if one cannot be used."""
    query: dict[str, str] = {}
    for name, value in parameters:
        if name not in PARAMETERS:
            raise SettingError(f"parameter {name[:40]!r}", f"some of {', '.join(PARAMETERS)}")
        if name in query:
            raise SettingError(f"parameter {name!r} more than once", "it once")
        query[name] = value
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
        _refuse(query, _OF_TRADES, "bars", "kind=trades")
    else:
        _refuse(query, ("size",), "trades", "kind=bars")
    wanted = TimeRange.of(query.get("from"), query.get("to"))
    refuse_years(wanted)
    if wanted.start is None:
        _refuse(query, ("to", "speed", "after"), "a stream without a beginning", "from=, where the past is to begin")
    if "after" not in query:
        _refuse(query, ("missing",), "a stream that begins", "after=, the highest id that you have")
    after = None if "after" not in query else _whole("after", query["after"])
    missing = () if after is None else _ranges(query.get("missing", ""), after)
    hold = _number("hold", query.get("hold", f"{HOLD_SECONDS:g}"), LONGEST_HOLD_SECONDS)
    speed = _number("speed", query.get("speed", "0"), math.inf)
    return Wish(venue, symbol, wanted.start, wanted.end, speed, size, after, missing, hold)


def _refuse(query: dict[str, str], names: tuple[str, ...], what: str, expected: str) -> None:
    for name in names:
        if name in query:
            raise SettingError(f"parameter {name!r} of {what}", expected)


def _number(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (math.isfinite(number) and 0 <= number <= most):
        limit = f" up to {most:g}" if math.isfinite(most) else ""
        raise SettingError(f"{name} {text[:20]!r}", f"a number of seconds from 0 on{limit}")
    return number


def _whole(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise SettingError(f"{name} {text[:20]!r}", "a trade id")
    return int(text)


def _ranges(text: str, after: int) -> tuple[IdRange, ...]:
    parts = [part for part in text.split(",") if part]
    if len(parts) > MOST_MISSING:
        raise SettingError(
            f"{len(parts)} ranges in missing", f"{MOST_MISSING} at most; begin anew with an earlier after="
        )
    found: list[IdRange] = []
    for part in parts:
        first, dash, last = part.partition("-")
        one = _whole("missing", first), _whole("missing", last if dash else first)
        if not one[0] <= one[1] <= after:
            raise SettingError(f"missing {part[:40]!r}", "ids such as 101-104,110, none of them above after=")
        found.append(one)
    return tuple(found)
