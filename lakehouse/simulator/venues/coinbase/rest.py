"""The simulated Coinbase's REST history: answers `/products/{id}/trades` (docs/venues.md, "Coinbase Exchange")."""

from __future__ import annotations

import re

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import RestCall, RestReply
from lakehouse.simulator.history import PAGE_TRADES, History, json_reply
from lakehouse.simulator.record import Row, decimal_text
from lakehouse.simulator.times import iso_micros

#: Decimals of prices and sizes in REST; zeros fill them up.
DECIMALS = 8


def trades(exchange: Exchange, call: RestCall) -> RestReply:
    """Answer `/products/{id}/trades`: trades with ids below `after`, or above `before`, newest first.

    The headers CB-BEFORE and CB-AFTER are the values of `before` and `after` for the neighbouring pages. 404 for an
    unknown product, 400 for a parameter that is not a number.
    """
    instrument = exchange.instrument("coinbase", call.parameters["product"])
    if instrument is None:
        return json_reply({"message": "NotFound"}, 404)
    for name in ("after", "before", "limit"):
        if name in call.query and not re.fullmatch(r"[0-9]{1,19}", call.query[name]):
            return json_reply({"message": f"Bad Request: {name} is not a number"}, 400)
    limit = max(1, min(PAGE_TRADES, int(call.query.get("limit", PAGE_TRADES))))
    history = History(exchange, exchange.markets["coinbase", instrument.symbol])
    end = history.index_of(int(call.query["after"])) if "after" in call.query else history.count
    start = history.index_of(int(call.query["before"]) + 1) if "before" in call.query else 0
    rows = history.page_before(end, limit, start)[::-1]
    headers = {"cb-before": str(rows[0].trade_id), "cb-after": str(rows[-1].trade_id)} if rows else {}
    return RestReply(f"[{','.join([rest_row(row) for row in rows])}]".encode(), headers=headers)


def rest_row(row: Row) -> str:
    """Encode a trade as a row of `/products/{id}/trades`, a JSON object, with prices and sizes of eight decimals."""
    price = decimal_text(row.price * 10 ** (DECIMALS - row.price_decimals), DECIMALS)
    size = decimal_text(row.size * 10 ** (DECIMALS - row.size_decimals), DECIMALS)
    side = "sell" if row.buy else "buy"
    return (
        f'{{"time":"{iso_micros(row.ts_event)}","trade_id":{row.trade_id},'
        f'"price":"{price}","size":"{size}","side":"{side}"}}'
    )
