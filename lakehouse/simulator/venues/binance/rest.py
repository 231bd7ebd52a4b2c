"""The simulated Binance's REST history: answers `historicalTrades` and `trades` (docs/venues.md, "Binance spot")."""

from __future__ import annotations

import re

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import RestCall, RestReply
from lakehouse.simulator.history import PAGE_TRADES, History, json_reply
from lakehouse.simulator.record import Row, decimal_text

#: Rows of a page if the call names no limit.
DEFAULT_LIMIT = 500


def historical_trades(exchange: Exchange, call: RestCall) -> RestReply:
    """Answer `/api/v3/historicalTrades`: trades ascending from `fromId`, or silently from the oldest that is shown.

    Without `fromId` the newest trades. The reply has `limit` trades at most: 1 to PAGE_TRADES, DEFAULT_LIMIT if not
    given. 400, with Binance's error code, for an unknown symbol or a bad parameter.
    """
    return _trades(exchange, call, from_id=True)


def newest_trades(exchange: Exchange, call: RestCall) -> RestReply:
    """Answer `/api/v3/trades`: the newest trades, ascending; 400 for an unknown symbol or a bad parameter.

    The reply has `limit` trades at most: 1 to PAGE_TRADES, DEFAULT_LIMIT if not given.
    """
    return _trades(exchange, call, from_id=False)


def _trades(exchange: Exchange, call: RestCall, from_id: bool) -> RestReply:
    symbol = call.query.get("symbol", "")
    if not symbol:
        message = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
        return json_reply({"code": -1102, "msg": message}, 400)
    instrument = exchange.instrument("binance", symbol)
    if instrument is None:
        return json_reply({"code": -1121, "msg": "Invalid symbol."}, 400)
    for name in ("fromId", "limit"):
        if name in call.query and not re.fullmatch(r"[0-9]{1,20}", call.query[name]):
            message = f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            return json_reply({"code": -1100, "msg": message}, 400)
    limit = max(1, min(PAGE_TRADES, int(call.query.get("limit", DEFAULT_LIMIT))))
    history = History(exchange, exchange.markets["binance", instrument.symbol])
    if from_id and "fromId" in call.query:
        rows = history.page(history.index_of(int(call.query["fromId"])), limit)
    else:
        rows = history.page_before(history.count, limit)
    unit = 1 if call.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND" else 1000
    return RestReply(f"[{','.join([rest_row(row, unit) for row in rows])}]".encode())


def rest_row(row: Row, unit: int) -> str:
    """Encode a trade as a row of `historicalTrades`, a JSON object.

    `unit` is the unit of the row's time in µs: 1 or 1000.
    """
    price, size = decimal_text(row.price, row.price_decimals), decimal_text(row.size, row.size_decimals)
    quote = decimal_text(row.price * row.size // 10**row.size_decimals, row.price_decimals)
    return (
        f'{{"id":{row.trade_id},"price":"{price}","qty":"{size}","quoteQty":"{quote}","time":{row.ts_event // unit},'
        f'"isBuyerMaker":{"false" if row.buy else "true"},"isBestMatch":true}}'
    )
