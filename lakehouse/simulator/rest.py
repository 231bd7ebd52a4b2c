"""The venues' REST trade history, straight from the record. Pure but for reading it: a call in, a reply out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lakehouse.simulator.clock import now_micros
from lakehouse.simulator.exchange import Hub
from lakehouse.simulator.faults.model import RestCall, RestReply
from lakehouse.simulator.market import Market
from lakehouse.simulator.record import Row
from lakehouse.simulator.venues.binance import session as binance
from lakehouse.simulator.venues.coinbase import session as coinbase
from lakehouse.simulator.venues.kraken import session as kraken

#: All three venues give 1,000 trades a page at most.
PAGE_TRADES = 1000
BINANCE_DEFAULT = 500


class History:
    """Rows of one market as REST shows them: `first` ≤ index < `count`, without those that come late.

    REST may lag behind the socket, forget, and leave rows out.
    """

    def __init__(self, hub: Hub, market: Market) -> None:
        self._tape = market.tape
        self._late_since, self._late_every = (
            0,
            0,
        )  #: from this event time on, every so manyth id is left out; 0: none is
        self.first, self.count = 0, self._tape.count if self._tape else 0
        if self._tape and hub.faults.active:
            view = hub.faults.view(market.listing.venue, market.listing.symbol)
            if view.newest is not None:
                self.first = max(0, self.count - view.newest)
            if view.lag_micros:
                self.count = self._tape.index_after(now_micros() - view.lag_micros)
            self.count = max(self.first, self.count - view.lag_ids)
            if view.late_micros:
                self._late_since, self._late_every = now_micros() - view.late_micros, view.late_every

    def index_of(self, trade_id: int) -> int:
        """Index of the first row with an id ≥ `trade_id`."""
        return self._within(self._tape.index_of(trade_id)) if self._tape else 0

    def index_after(self, ts_event: int) -> int:
        """Index of the first row later than `ts_event` (µs)."""
        return self._within(self._tape.index_after(ts_event)) if self._tape else 0

    def page(self, start: int, limit: int) -> list[Row]:
        """Up to `limit` rows from an index on; an index before the first begins there."""
        found: list[Row] = []
        at = max(self.first, start)
        while self._tape and len(found) < limit and at < self.count:
            rows = self._tape.rows(at, min(limit, self.count - at))
            at += len(rows)
            found += self._shown(rows)
        return found[: max(0, limit)]

    def page_before(self, end: int, limit: int, start: int = 0) -> list[Row]:
        """Up to `limit` rows before an index, from `start` on at most; ascending."""
        found: list[Row] = []
        start = max(self.first, start)
        while self._tape and len(found) < limit and end > start:
            at = max(start, end - limit)
            found = [*self._shown(self._tape.rows(at, end - at)), *found]
            end = at
        return found[-limit:]

    def _shown(self, rows: list[Row]) -> list[Row]:
        if not self._late_every:
            return rows
        return [row for row in rows if row.ts_event < self._late_since or row.trade_id % self._late_every]

    def _within(self, index: int) -> int:
        return max(self.first, min(self.count, index))


def binance_trades(hub: Hub, call: RestCall, headers: Mapping[str, str], from_id: bool) -> RestReply:
    """historicalTrades (ascending from `fromId`; silently from the first id that there is) and trades (the newest)."""
    symbol = call.query.get("symbol", "")
    if not symbol:
        message = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
        return _json({"code": -1102, "msg": message}, 400)
    listing = hub.listing("binance", symbol)
    if listing is None:
        return _json({"code": -1121, "msg": "Invalid symbol."}, 400)
    for name in ("fromId", "limit"):
        if name in call.query and not re.fullmatch(r"[0-9]{1,20}", call.query[name]):
            message = f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            return _json({"code": -1100, "msg": message}, 400)
    limit = max(1, min(PAGE_TRADES, int(call.query.get("limit", BINANCE_DEFAULT))))
    history = History(hub, hub.markets["binance", listing.symbol])
    if from_id and "fromId" in call.query:
        rows = history.page(history.index_of(int(call.query["fromId"])), limit)
    else:
        rows = history.page_before(history.count, limit)
    unit = 1 if headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND" else 1000
    return RestReply(f"[{','.join([binance.rest_row(row, unit) for row in rows])}]".encode())


def kraken_trades(hub: Hub, call: RestCall) -> RestReply:
    """Trades: ascending, later than `since` (ns); the newest page without it. A page may end inside one timestamp."""
    pair, asset_class = call.query.get("pair", ""), call.query.get("asset_class")
    listing = next(
        (
            one
            for one in hub.listings("kraken")
            if pair in _kraken_names(one.symbol, one.kraken_rest, one.kraken_key) and asset_class == one.kraken_class
        ),
        None,
    )
    if listing is None:
        return _json({"error": ["EQuery:Unknown asset pair"]})
    since_text, count_text = call.query.get("since", ""), call.query.get("count", str(PAGE_TRADES))
    if not re.fullmatch(r"[0-9]*(\.[0-9]*)?", since_text) or not count_text.isdecimal():
        return _json({"error": ["EGeneral:Invalid arguments"]})
    limit = max(1, min(PAGE_TRADES, int(count_text)))
    since = _nanoseconds(since_text)
    history = History(hub, hub.markets["kraken", listing.symbol])
    if since is None:
        rows = history.page_before(history.count, limit)
    else:
        rows = history.page(history.index_after(since // 1000), limit)
    last = rows[-1].ts_event * 1000 if rows else since or 0
    trades = ",".join([kraken.rest_row(row) for row in rows])
    return RestReply(f'{{"error":[],"result":{{"{listing.kraken_key}":[{trades}],"last":"{last}"}}}}'.encode())


def coinbase_trades(hub: Hub, call: RestCall, product: str) -> RestReply:
    """Trades, newest first: older than `after`, or newer than `before`. CB-BEFORE and CB-AFTER are the next cursors."""
    listing = hub.listing("coinbase", product)
    if listing is None:
        return _json({"message": "NotFound"}, 404)
    for name in ("after", "before", "limit"):
        if name in call.query and not re.fullmatch(r"[0-9]{1,19}", call.query[name]):
            return _json({"message": f"Bad Request: {name} is not a number"}, 400)
    limit = max(1, min(PAGE_TRADES, int(call.query.get("limit", PAGE_TRADES))))
    history = History(hub, hub.markets["coinbase", listing.symbol])
    end = history.index_of(int(call.query["after"])) if "after" in call.query else history.count
    start = history.index_of(int(call.query["before"]) + 1) if "before" in call.query else 0
    rows = history.page_before(end, limit, start)[::-1]
    headers = {"cb-before": str(rows[0].trade_id), "cb-after": str(rows[-1].trade_id)} if rows else {}
    return RestReply(f"[{','.join([coinbase.rest_row(row) for row in rows])}]".encode(), headers=headers)


def _kraken_names(*names: str) -> set[str]:
    return {name for symbol in names for name in (symbol, symbol.replace("/", ""))}


def _nanoseconds(since: str) -> int | None:
    """`since` in ns. Kraken also takes seconds; a number below 1e12 can only be that. None where there is none."""
    if not since.strip("."):
        return None
    if "." in since or float(since) < 1e12:
        return int(float(since) * 1e9)
    return int(since)


def _json(value: Any, status: int = 200) -> RestReply:
    return RestReply(msgspec.json.encode(value), status)
