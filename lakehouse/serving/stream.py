"""`/v1/stream`: the trades of a market over a WebSocket, from the lake first and then live, joined by trade id.

Guarantee: from its first trade on, a client gets every trade of the market that Kafka ever gets, each once. The past
comes in the order of ids. Live trades come as Kafka has them: a repaired one comes behind those that followed it.
How: the client is subscribed to Kafka's messages first. Then the lake is read at a version of which ops/batches tells
how far it has read Kafka, and a message is sent only if its id was not. A client that takes too long is told and cut.
Limit: live trades are sent as Kafka has them, before Silver judges them; one that Silver will quarantine is sent too.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
from starlette.websockets import WebSocket, WebSocketDisconnect

from lakehouse.broker.latest_trade import LatestTrade
from lakehouse.client.text import cell
from lakehouse.errors import LakehouseError
from lakehouse.id_ranges import IdRanges
from lakehouse.serving import stream_bars
from lakehouse.serving.answers import Api
from lakehouse.serving.fan_out import Subscription, joins
from lakehouse.serving.problems import Problem
from lakehouse.serving.seam import Seam, newest_seam
from lakehouse.tables import SILVER_TRADES

#: Rows of one message at most.
ROWS = 500
#: Seconds that a client may take for one message, and that the lake gets to come near enough to Kafka.
SEND_SECONDS = 10.0
JOIN_SECONDS = 60.0
JOIN_RETRY_SECONDS = 0.5

#: Close codes: RFC 6455 (1000 done, 1008 refused, 1013 try again later).
DONE, REFUSED, LATER = 1000, 1008, 1013

_COLUMNS = ("venue", "symbol", "trade_id", "price", "size", "side", "ts_event", "source")


@dataclass(frozen=True)
class Wish:
    """The wish of a client: a market, from when (None: live only) up to when (None: without end).

    `speed`: how many seconds of the past are sent in a second; 0 is as fast as the client reads. `size`: the length of
    bars; None for trades.
    """

    venue: str
    symbol: str
    start: dt.datetime | None
    end: dt.datetime | None
    speed: float
    size: str | None = None


class TooSlowError(Exception):
    """The client does not read fast enough."""


async def serve_stream(socket: WebSocket, api: Api, wish: Wish) -> None:
    """Serve one client, whose socket is open, until it leaves, its end is reached, or it is too slow."""
    sending = asyncio.create_task(_send_all(socket, api, wish))
    leaving = asyncio.create_task(_until_left(socket))
    await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
    code, reason = DONE, "the end of the range"
    try:
        await sending
    except TooSlowError:
        code, reason = LATER, "too slow: read faster, or ask for a shorter range"
    except (LakehouseError, Problem) as error:
        code, reason = LATER, str(error)
    except (asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
        return  # the client has left
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))


async def _until_left(socket: WebSocket) -> None:
    """Take what the client sends, which means nothing, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _send_all(socket: WebSocket, api: Api, wish: Wish) -> None:
    parts = (
        _trades(api, wish)
        if wish.size is None
        else stream_bars.parts(api, wish.venue, wish.symbol, wish.size, wish.start)
    )
    async for kind, rows in parts:
        text = msgspec.json.encode({"type": kind, "rows": rows} if rows is not None else {"type": kind}).decode()
        try:
            await asyncio.wait_for(socket.send_text(text), SEND_SECONDS)
        except TimeoutError:
            raise TooSlowError from None


async def _trades(api: Api, wish: Wish) -> AsyncIterator[tuple[str, list[dict[str, Any]] | None]]:
    """Yield messages: `trades` with rows, and once `live`, where the past ends."""
    sent = IdRanges()
    subscription, first = api.fan_out.subscribe(wish.venue, wish.symbol)
    try:
        if wish.start is not None:
            seam = await _joined(api, first)
            async for rows in _past(api, wish, seam, sent):
                yield "trades", rows
            if wish.end is not None and wish.end <= _known_until(api, wish):
                return
            for rows in _chunks([one for one in subscription.before if _is_new(one, wish, sent)]):
                yield "trades", rows
        yield "live", None
        while True:
            new, is_over = _news(subscription, wish, sent)
            for rows in _chunks(new):
                yield "trades", rows
            if is_over:
                return
            if subscription.is_behind:
                raise TooSlowError
            if not subscription.pending:
                await subscription.wait()
    finally:
        api.fan_out.unsubscribe(subscription)


async def _joined(api: Api, first: dict[int, int]) -> Seam:
    """Return a seam behind the first offsets of a subscription, waiting for the lake if it must."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        seam = await asyncio.to_thread(newest_seam, api.settings)
        newest = await asyncio.to_thread(api.tables.newest, SILVER_TRADES)  # looked up twice a second at most
        since = api.fan_out.since(first)
        if seam and since is not None and newest.version >= seam.version and joins(since, seam.read):
            return seam
        if time.monotonic() > deadline:
            raise LakehouseError("the lake is too far behind Kafka", "streams that run", "try again later")
        await asyncio.sleep(JOIN_RETRY_SECONDS)


async def _past(api: Api, wish: Wish, seam: Seam, sent: IdRanges) -> AsyncIterator[list[dict[str, Any]]]:
    scan = api.lake.trades(wish.venue, wish.symbol, start=wish.start, end=wish.end, version=seam.version)
    batches = iter(scan.select(*_COLUMNS).batches())
    began, first_at = time.monotonic(), None
    while (batch := await asyncio.to_thread(_next, batches)) is not None:
        for at in range(0, batch.num_rows, ROWS):
            rows = batch.slice(at, ROWS).to_pylist()
            for row in rows:
                sent.add(row["trade_id"], row["trade_id"])
            if wish.speed:
                first_at = first_at or rows[0]["ts_event"]
                due = began + (rows[0]["ts_event"] - first_at).total_seconds() / wish.speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield [{name: cell(value) for name, value in row.items()} for row in rows]


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next(batches, None)


def _known_until(api: Api, wish: Wish) -> dt.datetime:
    """Return up to when the market is known: the time of its newest trade in Kafka."""
    latest = api.prices.latest(wish.venue, wish.symbol)
    return _moment(latest[0].ts_event) if latest else dt.datetime.min.replace(tzinfo=dt.UTC)


def _news(subscription: Subscription, wish: Wish, sent: IdRanges) -> tuple[list[LatestTrade], bool]:
    """Take what waits: the new trades of the range, and whether a trade behind the range has come."""
    new: list[LatestTrade] = []
    while subscription.pending:
        trade = subscription.pending.popleft()
        if wish.end is not None and _moment(trade.ts_event) >= wish.end:
            return new, True
        if _is_new(trade, wish, sent):
            new.append(trade)
    return new, False


def _is_new(trade: LatestTrade, wish: Wish, sent: IdRanges) -> bool:
    """Return whether a trade is to be sent, and note its id. A live stream begins with its first id."""
    at = _moment(trade.ts_event)
    if (wish.start is not None and at < wish.start) or (wish.end is not None and at >= wish.end):
        return False
    if wish.start is None and sent.lowest is not None and trade.trade_id < sent.lowest:
        return False
    return bool(sent.add(trade.trade_id, trade.trade_id))


def _moment(micros: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=micros)


def _chunks(trades: list[LatestTrade]) -> Iterator[list[dict[str, Any]]]:
    for at in range(0, len(trades), ROWS):
        yield [_row(trade) for trade in trades[at : at + ROWS]]


def _row(trade: LatestTrade) -> dict[str, Any]:
    row = {name: getattr(trade, name) for name in _COLUMNS}
    return row | {"ts_event": cell(_moment(trade.ts_event))}
