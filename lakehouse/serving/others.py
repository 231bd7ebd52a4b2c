"""Answers that are not a page of a table's rows: markets, prices, health."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.client.text import texts
from lakehouse.serving.answers import KEEP, NO_STORE, Answer, Api, Asked, etag
from lakehouse.serving.cursor import moment
from lakehouse.serving.forms import JSON, MEDIA_TYPES, write
from lakehouse.serving.frames import Bounds, select
from lakehouse.serving.reader import Call
from lakehouse.tables import GOLD_BARS_1M, SILVER_CONTINUITY, SILVER_TRADES

_TIME: Any = pa.timestamp("us", tz="UTC")
_PRICES: Any = pa.schema(
    [
        *((name, pa.string()) for name in ("venue", "symbol", "price", "size", "side")),
        ("trade_id", pa.int64()),
        ("ts_event", _TIME),
        ("ts_ingest", _TIME),
    ]
)


def markets(api: Api, asked: Asked, call: Call) -> Answer:
    """Answer with the markets of the ledger of ids, and the times of the first and last trade that it knows of each."""
    form = asked.form()
    opened = api.tables.newest(SILVER_CONTINUITY, call.wait)
    tag = etag(opened, form)
    headers = {**KEEP, "ETag": tag, "X-Table": opened.table.path, "X-Table-Version": str(opened.version)}
    if asked.has(tag):
        return Answer(None, MEDIA_TYPES[form], headers)
    frames = [api.frames.day(opened, None, call.wait)] if opened.days else []
    columns = ["venue", "symbol", "ts_first", "ts_last"]
    schema = pa.schema([pa.field(name, _TIME if name.startswith("ts_") else pa.string()) for name in columns])
    ranges = select(frames, schema, Bounds(), None)
    present = ranges.filter(pc.field("state") == "present") if frames else ranges
    found = present.group_by(["venue", "symbol"]).aggregate([("ts_first", "min"), ("ts_last", "max")])
    rows = found.select(["venue", "symbol", "ts_first_min", "ts_last_max"]).sort_by(
        [("venue", "ascending"), ("symbol", "ascending")]
    )
    rows = rows.rename_columns(["venue", "symbol", "first_trade", "last_trade"])
    about = {
        "table": opened.table.path,
        "version": opened.version,
        "next": None,
        "simulated": api.settings.is_simulated,
    }
    return Answer(write(form, rows if form == "arrow" else texts(rows), about), MEDIA_TYPES[form], headers)


def prices(api: Api, asked: Asked, venue: str | None, symbol: str | None) -> Answer:
    """Answer with the latest trades in Kafka; the body and the header X-Connected say whether Kafka answers."""
    form = asked.form()
    found = [
        {name: getattr(trade, name) for name in _PRICES.names}
        | {"ts_event": moment(trade.ts_event), "ts_ingest": moment(trade.ts_ingest)}
        for trade in api.prices.latest(venue, symbol)
    ]
    rows = pa.Table.from_pylist(found, _PRICES)
    feed = api.prices.feed
    about = {
        "connected": feed.connected,
        "since": dt.datetime.fromtimestamp(feed.since, dt.UTC),
        "reason": feed.reason,
        "simulated": api.settings.is_simulated,
    }
    headers = {**NO_STORE, "X-Connected": str(feed.connected).lower()}
    return Answer(write(form, rows if form == "arrow" else texts(rows), about), MEDIA_TYPES[form], headers)


def health(api: Api, call: Call) -> Answer:
    """Answer with the state of the lake and of Kafka. Raises Problem if the lake cannot be read."""
    opened = {
        table.path: api.tables.newest(table, call.wait) for table in (GOLD_BARS_1M, SILVER_TRADES, SILVER_CONTINUITY)
    }
    feed = api.prices.feed
    body = {
        "status": "ok" if feed.connected else "degraded",
        "simulated": api.settings.is_simulated,
        "kafka_connected": feed.connected,
        "kafka_reason": feed.reason,
        "newest_bar": opened[GOLD_BARS_1M.path].newest,
        "newest_trade": opened[SILVER_TRADES.path].newest,
        "versions": {path: one.version for path, one in opened.items()},
        "uptime_seconds": round(time.monotonic() - api.started, 3),
        "cached_bytes": api.frames.nbytes,
    }
    return Answer(msgspec.json.encode(body), JSON, dict(NO_STORE))
