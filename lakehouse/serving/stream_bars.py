"""The bars of a market over a WebSocket: first the bars so far, then each bar whenever it changes."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator
from typing import Any

from lakehouse.client.bars import minutes_of
from lakehouse.client.text import cell
from lakehouse.serving.answers import Api

#: Rows of one message at most, and seconds between two looks at Gold.
ROWS = 500
LOOK_SECONDS = 1.0

#: Columns that tell whether a bar has changed.
_CHANGE = ("close", "trades", "volume", "complete", "is_final", "updated_at")


async def parts(
    api: Api, venue: str, symbol: str, size: str, start: dt.datetime | None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield messages: `bars` with rows, and `live` once, after the bars so far.

    Without a start, the bars so far are those that began within the last two bar lengths. A bar comes again whenever it
    changes: while its time runs, and after a repair.
    """
    length = dt.timedelta(minutes=minutes_of(size))
    begin = start or dt.datetime.now(dt.UTC) - 2 * length
    known: dict[dt.datetime, tuple[Any, ...]] = {}
    is_live = False
    while True:
        rows = await asyncio.to_thread(_rows, api, venue, symbol, size, begin)
        new = [row for row in rows if known.get(row["bar_start"]) != _state(row)]
        for at in range(0, len(new), ROWS):
            chunk = new[at : at + ROWS]
            known.update((row["bar_start"], _state(row)) for row in chunk)
            yield {"type": "bars", "rows": [{name: cell(value) for name, value in row.items()} for row in chunk]}
        if not is_live:
            yield {"type": "live"}
            is_live = True
        await asyncio.sleep(LOOK_SECONDS)


def _rows(api: Api, venue: str, symbol: str, size: str, begin: dt.datetime) -> list[dict[str, Any]]:
    return api.lake.bars(venue, symbol, size=size, start=begin).arrow().to_pylist()


def _state(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _CHANGE)
