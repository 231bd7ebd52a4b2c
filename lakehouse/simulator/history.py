"""Read pages of trades from the record for the simulated REST APIs: the part that all venues share.

Each venue's own parameters and rows are in `venues/<venue>/rest.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lakehouse.simulator.exchange import Exchange
from lakehouse.simulator.faults.model import RestReply
from lakehouse.simulator.market import Market
from lakehouse.simulator.record import Row
from lakehouse.simulator.times import now_micros

#: All three venues give 1,000 trades a page at most.
PAGE_TRADES = 1000


class History:
    """The recorded trades of one market, as far as the simulated REST API shows them at this moment.

    Rows are numbered from 0, the oldest recorded one; those with `first` ≤ index < `count` are shown. Active faults let
    REST lag behind the socket, forget old rows, or leave out some that it shows later.
    """

    def __init__(self, exchange: Exchange, market: Market) -> None:
        self._tape = market.tape
        #: From this event time on (µs), ids that are multiples of `_late_every` are left out; 0: no id is.
        self._late_since, self._late_every = 0, 0
        self.first, self.count = 0, self._tape.count if self._tape else 0
        if self._tape and exchange.faults.active:
            view = exchange.faults.view(market.instrument.venue, market.instrument.symbol)
            if view.newest is not None:
                self.first = max(0, self.count - view.newest)
            if view.lag_micros:
                self.count = self._tape.index_after(now_micros() - view.lag_micros)
            self.count = max(self.first, self.count - view.lag_ids)
            if view.late_micros:
                self._late_since, self._late_every = now_micros() - view.late_micros, view.late_every

    def index_of(self, trade_id: int) -> int:
        """Return the index of the first row with an id ≥ `trade_id`, moved into `first`..`count`."""
        return self._within(self._tape.index_of(trade_id)) if self._tape else 0

    def index_after(self, ts_event: int) -> int:
        """Return the index of the first row later than `ts_event` (µs), moved into `first`..`count`."""
        return self._within(self._tape.index_after(ts_event)) if self._tape else 0

    def page(self, start: int, limit: int) -> list[Row]:
        """Return up to `limit` shown rows from index `start` on (from `first`, if `start` is lower), ascending."""
        found: list[Row] = []
        at = max(self.first, start)
        while self._tape and len(found) < limit and at < self.count:
            rows = self._tape.rows(at, min(limit, self.count - at))
            at += len(rows)
            found += self._shown(rows)
        return found[: max(0, limit)]

    def page_before(self, end: int, limit: int, start: int = 0) -> list[Row]:
        """Return the last `limit` shown rows with `start` ≤ index < `end`, ascending."""
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


def json_reply(value: Any, status: int = 200) -> RestReply:
    """Build an HTTP reply with `value` encoded as JSON."""
    return RestReply(msgspec.json.encode(value), status)
